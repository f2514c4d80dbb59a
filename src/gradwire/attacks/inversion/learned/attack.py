"""The learned inverter as an attack: trained on the adversary's own examples for the round at hand, then asked once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.learned.inverter import Inverter, Plan
from gradwire.attacks.inversion.learned.network import Fitting
from gradwire.attacks.inversion.learned.occasion import Occasion
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, PublicExamples, Specified
from gradwire.attacks.inversion.rehearsals import batched
from gradwire.errors import GradwireError, check_counts, positive
from gradwire.progress import Progress, silent
from gradwire.schemes import observation


@dataclass(frozen=True)
class Learned(Specified):
    """A network from what was sent (and the targets) to the inputs; see `inverter`.

    Attributes:
        hidden: units of a hidden layer, and `depth`, linear layers in all.
        epochs: passes over the adversary's own examples, `size` of them a step, of at most the size `step`.
        components: principal components of its own inputs that the network gives.
        features: numbers that it gets of what was sent: all of it, or, where it is longer, a sketch. There are never
            more than own examples.
    """

    name: ClassVar[str] = "learned"

    hidden: int = 1024
    depth: int = 2
    epochs: int = 10
    size: int = 256
    step: float = 2e-3
    components: int = 256
    features: int = 4096

    def __post_init__(self) -> None:
        check_counts(self.name, self, "hidden", "depth", "epochs", "size", "components", "features")
        positive(self.name, self, "step")

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Train an inverter for each occasion among the problems, and ask it; no checkpoint is written.

        Returns:
            inputs; the objective is that of `iga` without a prior, 1 − cos(A(∇L(x, y)), sent) and contradictions.

        Raises:
            GradwireError: no examples of its own, or rounds that cannot be rehearsed.
        """
        return self.trained(problems, seed, device, progress).run(problems, seed, device, progress)

    def trained(
        self, problems: Sequence[Problem], seed: int = 0, device: str = "cpu", progress: Progress = silent
    ) -> "TrainedLearned":
        """The attack with its inverters: one for each occasion, which all its victims share."""
        plan = Plan(Fitting(self.hidden, self.depth, self.epochs, self.size, self.step), self.components, self.features)
        inverters: dict[Occasion, Inverter] = {}
        notes: dict[str, None] = {}
        for problem in problems:
            own = examples(self.name, problem)
            occasion = Occasion.of(problem)
            if occasion not in inverters:
                inverters[occasion] = inverter = Inverter.fit(problem, own, plan, seed, device, progress)
                notes[f"learned was trained on {inverter.rounds} rounds of {own.source}, {_how(problem)}"] = None
        notes |= dict.fromkeys(f"learned {note}" for note in problems[0].left_aside())
        return TrainedLearned(**vars(self), inverters=tuple(inverters.values()), told=tuple(notes))


def _how(problem: Problem) -> str:
    """Under what its rehearsals were, and what sets them apart from the attacked round."""
    if problem.knowledge == "naive":
        return "under plain gradients"
    residuals = problem.view.round and observation(problem.view)[0].feeds_back
    words = (f"under {problem.view.scheme}", "" if batched(problem) else "round by round")
    return ", ".join(word for word in (*words, "without the victims' residuals" if residuals else "") if word)


@dataclass(frozen=True)
class TrainedLearned(Learned):
    """Learned with its inverters, for victims of the occasions for which they were trained alone.

    Attributes:
        told: notes on how they were trained.
    """

    inverters: tuple[Inverter, ...] = field(default=(), repr=False)
    told: tuple[str, ...] = ()

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Ask the inverters.

        Raises:
            GradwireError: a victim of another round, model, scheme or knowledge.
        """
        domain = problems[0].view.task.domain
        occasions = [Occasion.of(problem) for problem in problems]
        known = {inverter.occasion: inverter for inverter in self.inverters}
        inputs = torch.empty(len(problems), *problems[0].view.shape, dtype=domain.dtype)
        for occasion in dict.fromkeys(occasions):
            rows = [row for row, each in enumerate(occasions) if each == occasion]
            inverter = known.get(occasion, self.inverters[0])
            inputs[rows] = domain.snapped(inverter.answer([problems[row] for row in rows]))
        guess = scored(problems, inputs, device, self.told)
        progress(ATTACKING, len(problems), len(problems))
        return guess


def examples(attack: str, problem: Problem) -> PublicExamples:
    """The adversary's own examples, refused where there are none or where inputs are no numbers."""
    what, domain = problem.public_examples, problem.view.task.domain
    if not domain.continuous:
        raise GradwireError(f"{attack} gives numbers, which {domain.what} are not; try sentences")
    if what is None:
        raise GradwireError(f"{attack} needs {domain.what} of the adversary's own; there are none (--public N)")
    return what


def scored(problems: Sequence[Problem], inputs: Tensor, device: str, notes: tuple[str, ...]) -> Guess:
    """Inputs (V, B, *shape) as an answer, with the objective of `iga` without a prior beside it."""
    if not all(problems[0].shares_model(problem) for problem in problems):
        raise GradwireError("problems attacked together must share a model, a mode and a shape, in every round")
    match = Match.of(problems, device)
    objective = IGA(tv=0).value(match, inputs.to(device)).detach().cpu()
    lost = int((~objective.isfinite()).sum())
    objective = objective.nan_to_num(nan=torch.inf)
    return Guess(inputs, match.targets.cpu(), objective, 1, lost, notes)
