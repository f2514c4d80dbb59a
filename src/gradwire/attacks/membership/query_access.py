"""Query access: a model's answers, and those of shadow models whose members are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.membership.signals import Signals
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Population:
    """Answers of the target (m, A) and its shadows (S, m, A) on m further examples that no model was trained on."""

    target: Signals
    shadows: Signals


@dataclass(frozen=True)
class QueryAccess:
    """The target's answers on n candidates, and what they are compared with, but not the target's members.

    Attributes:
        target: shape (n, A), A augmentations of each candidate, the first of them the candidate as it is.
        labels: the candidates' targets, shape (n, …): class numbers, int64 (n,), where there are classes.
        shadows: shape (S, n, A).
        members: bool, shape (S, n): which candidates each shadow was trained on.
        population: for attacks that compare a candidate with other examples.
        train_loss: the target's mean training loss, where its owner publishes it.
    """

    target: Signals
    labels: Tensor
    shadows: Signals | None = None
    members: Tensor | None = None
    population: Population | None = None
    train_loss: float | None = None

    def __post_init__(self) -> None:
        n = len(self.target)
        if self.labels.shape[:1] != (n,):
            shape = tuple(self.labels.shape)
            raise GradwireError(f"there are {n} candidates and labels of shape {shape}; each needs one")
        if (self.shadows is None) != (self.members is None):
            raise GradwireError("shadow models need both their answers and which candidates they were trained on")
        if self.shadows is not None and self.members is not None:
            models, answers = tuple(self.members.shape), tuple(self.shadows.label.shape)
            if answers[:2] != models or answers[1:] != tuple(self.target.label.shape):
                raise GradwireError(
                    f"shadows answered in shape {answers}, were trained on {models}, and the target answered in "
                    f"{tuple(self.target.label.shape)}; they must be (S, n, A), (S, n) and (n, A)"
                )

    def known(self, needed: int, attack: str) -> tuple[Signals, Tensor]:
        """The answers and members of the shadows; an error where there are fewer than needed."""
        count = 0 if self.shadows is None else len(self.shadows)
        if self.shadows is None or self.members is None or count < needed:
            raise GradwireError(f"attack {attack!r} has {count} shadow models; it needs at least {needed}")
        return self.shadows, self.members

    def rehearsal(self, shadow: int = 0) -> tuple["QueryAccess", Tensor]:
        """Query access to a shadow model in the target's place, and its members, bool (n,), which are known."""
        shadows, members = self.known(1, "rehearsal")
        population = None if self.population is None else self.population.shadows
        return Answers(shadows, members, self.labels, population).against(shadow)


@dataclass(frozen=True)
class Answers:
    """The answers of M models on n candidates: each model can be the target, with the others as its shadows.

    Attributes:
        signals: shape (M, n, A).
        members: bool, shape (M, n).
        labels: as of `QueryAccess`.
        population: shape (M, m, A), on examples that no model was trained on.
    """

    signals: Signals
    members: Tensor
    labels: Tensor
    population: Signals | None = None

    def of(self, candidates: Tensor) -> "Answers":
        """The answers on some candidates: a mask, bool (n,)."""
        signals = self.signals.each(lambda tensor: tensor[:, candidates])
        return Answers(signals, self.members[:, candidates], self.labels[candidates], self.population)

    def against(self, target: int) -> tuple[QueryAccess, Tensor]:
        """Query access to one of the models, and its members, bool (n,)."""
        rest, own = torch.arange(len(self.signals)) != target, self.members[target]
        access = QueryAccess(
            self.signals[target],
            self.labels,
            self.signals[rest] if rest.any() else None,
            self.members[rest] if rest.any() else None,
            None if self.population is None else Population(self.population[target], self.population[rest]),
            float(self.signals.loss[target, own, 0].mean()),
        )
        return access, own
