"""A hook's state for torch.distributed.checkpoint, which takes equal names of several ranks for copies of one tensor.

>>> saved = {"model": model.state_dict(), "gradwire": RankState(state)}
>>> dcp.save(saved, checkpoint_id=folder)

Every rank keeps a part of its own, parameter by parameter, under "rank<r>".
"""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.integrations.hook_state import HookState

FACTS = "facts"
KINDS = ("public", "private")


class RankState:
    """A `Stateful` of torch.distributed.checkpoint around a `HookState`.

    What is known before loading are ranks and parameters, and not which tensors a scheme has kept of each: a
    parameter's tensors are one entry, in bytes.
    """

    def __init__(self, state: HookState):
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        """This rank's part: "rank<r>" → "facts" and each parameter's name → bytes."""
        whole = self.state.state_dict()
        parts: dict[str, dict[str, Any]] = {name: {} for name in whole["parameters"]}
        for kind in KINDS:
            for key, tensor in whole[kind].items():
                parts[key.rpartition("|")[0]][f"{kind}|{key}"] = tensor
        facts = {name: value for name, value in whole.items() if name not in KINDS}
        return {f"rank{whole['rank']}": {name: _bytes(part) for name, part in {FACTS: facts, **parts}.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over this rank's part.

        Raises:
            GradwireError: it is missing, or as `HookState.load_state_dict`.
        """
        own = next(iter(self.state_dict()))
        if own not in state:
            raise GradwireError(f"the checkpoint has no state of {own}; it has {', '.join(sorted(state)) or 'none'}")
        read = {name: torch.load(io.BytesIO(part), weights_only=True) for name, part in state[own].items()}
        whole = {**read.pop(FACTS), **{kind: {} for kind in KINDS}}
        for part in read.values():
            for key, tensor in part.items():
                kind, _, name = key.partition("|")
                whole[kind][name] = tensor
        self.state.load_state_dict(whole)


def _bytes(part: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    # Copies: a part of a longer vector would be written with all of it.
    torch.save({key: value.clone() if isinstance(value, Tensor) else value for key, value in part.items()}, file)
    return file.getvalue()


__all__ = ["RankState"]
