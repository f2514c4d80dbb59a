"""A bucket's state, parameter by parameter: DDP deals its parameters out anew, and what was left unsent must follow.

A scheme's state is a flat mapping of names to tensors. An entry named like a parameter belongs to it; an entry as
long as the whole bucket is one number an entry, and each parameter's part of it belongs to that parameter. Anything
else (a key, a counter) belongs to the bucket and starts afresh with it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradwire.schemes import Layout, State

Loose = dict[tuple[str, str], Tensor]
"""(parameter, name of the state's entry) → the parameter's part; the name is empty for an entry named like it."""


def split(state: State, layout: Layout) -> Loose:
    """A bucket's state in its parameters' parts."""
    loose: Loose = {}
    for name, tensor in state.items():
        if name in layout.shapes:
            loose[name, ""] = tensor
        elif tensor.shape == (layout.size,):
            loose |= {(parameter, name): part for parameter, part in layout.unflatten(tensor).items()}
    return loose


def gather(loose: Mapping[tuple[str, str], Tensor], fresh: State, layout: Layout) -> dict[str, Tensor]:
    """The state of a bucket with this layout: `fresh`, and what is known of its parameters in place of that."""
    state = dict(fresh)
    for name in layout.shapes:
        if (name, "") in loose:
            state[name] = loose[name, ""]
    for name, tensor in fresh.items():
        if name not in layout.shapes and tensor.shape == (layout.size,):
            parts = layout.unflatten(tensor)
            state[name] = torch.cat([loose.get((p, name), part).reshape(-1) for p, part in parts.items()])
    return state
