"""What halves are made of: means over clients, halves that run within others, states that hold several others."""

from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from gradwire.schemes.round import State
from gradwire.wire import Tensors, wide

Y = TypeVar("Y")
G = TypeVar("G")
R = TypeVar("R")
V = TypeVar("V", Tensor, Tensors)


def mean(uploads: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """The entry-wise mean of what the clients sent: name → tensor."""
    parties = list(uploads.values())
    if len(parties) == 1:  # one client, or a transport that has taken the mean already
        return dict(parties[0])
    # Added up one by one: many clients' tensors as one would be as large as all of them together.
    totals = {name: tensor.to(wide(tensor.dtype), copy=True) for name, tensor in parties[0].items()}
    for tensors in parties[1:]:
        for name, total in totals.items():
            total += tensors[name]
    sent = {name: tensor.dtype for name, tensor in parties[0].items()}
    dtypes = {name: dtype if dtype.is_floating_point else torch.float32 for name, dtype in sent.items()}
    return {name: (total / len(parties)).to(dtypes[name]) for name, total in totals.items()}


def advanced(half: Generator[Y, G, R], got: G | None) -> tuple[Y | None, R | None]:
    """Send to a half what it waits for, None to begin: (what it yields, None), or (None, what it returns)."""
    try:
        return (next(half) if got is None else half.send(got)), None
    except StopIteration as stop:
        return None, stop.value


def relayed(half: Generator[Y, G, R], change: Callable[[Y], Y]) -> Generator[Y, G, R]:
    """The same half with everything that it yields changed."""
    item = next(half)
    while True:
        got = yield change(item)
        try:
            item = half.send(got)
        except StopIteration as stop:
            return stop.value


def joined(states: Mapping[int, State] | Mapping[str, State]) -> dict[str, Tensor]:
    """Several states as one: label → state becomes `label/name` → tensor."""
    return {f"{label}/{name}": tensor for label, state in states.items() for name, tensor in state.items()}


def under(tensors: Mapping[str, V], label: int | str) -> dict[str, V]:
    """The part of a joined mapping that stands under a label, names without it."""
    start = f"{label}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
