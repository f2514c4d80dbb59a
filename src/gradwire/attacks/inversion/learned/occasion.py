"""What an inverter is trained for, and the refusal of anything else."""

from dataclasses import dataclass, fields

import xxhash
from torch import Tensor

from gradwire.attacks.inversion.problem import Knowledge, Problem
from gradwire.errors import GradwireError

KIND = ("scheme", "knowledge", "adversary", "mode", "shape")
"""What a refusal names beside the round and the model."""


@dataclass(frozen=True)
class Occasion:
    """Everything that what is sent of an example depends on: victims of one occasion share an inverter.

    Attributes:
        scheme: its spec, and `public`, a digest of its state; both empty for the naive adversary, to whom all are one.
        round: its number, and the run's `seed`.
        model: a digest of the network's parameters and buffers.
        clients: of the round, and those that are `sought`.
        known: whether the targets are known.
    """

    scheme: str
    public: str
    round: int
    seed: int
    model: str
    clients: tuple[str, ...]
    sought: tuple[str, ...]
    adversary: str
    mode: str
    shape: tuple[int, ...]
    knowledge: Knowledge
    known: bool

    @classmethod
    def of(cls, problem: Problem) -> "Occasion":
        """The occasion of a problem."""
        view, naive = problem.view, problem.knowledge == "naive"
        return cls(
            "" if naive else view.scheme,
            "" if naive else digest(*(view.public[name] for name in sorted(view.public))),
            view.round,
            view.seed,
            digest(*view.model.state_dict().values()),
            view.clients,
            problem.clients,
            view.adversary,
            view.mode,
            tuple(view.shape),
            problem.knowledge,
            view.targets is not None,
        )

    def check(self, problem: Problem) -> None:
        """Refuse a problem of another occasion.

        Raises:
            GradwireError: naming both rounds and models, and what else differs.
        """
        other = Occasion.of(problem)
        if self == other:
            return
        ours, theirs = (f"round {each.round} (model {each.model[:8]})" for each in (self, other))
        differs = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        beside = [f"{name} {getattr(self, name)!r}, not {getattr(other, name)!r}" for name in differs if name in KIND]
        why = f"trained for {ours}{''.join(', ' + each for each in beside)}"
        raise GradwireError(f"learned: this inverter was {why}; the view is of {theirs}: train one for it")


def digest(*tensors: Tensor) -> str:
    """A hash of tensors."""
    found = xxhash.xxh3_64()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
