"""A control: the mean of the adversary's own inputs of the victim's class, for which the label is enough.

What another attack finds beyond it, it found in what was sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from gradwire.attacks.inversion.learned.attack import examples, scored
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent


@dataclass(frozen=True)
class ClassMean(Specified):
    """Each answer is the mean of its class; of a class of which the adversary has nothing, the mean of all."""

    name: ClassVar[str] = "class-mean"

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Look at the targets alone; the objective is that of `iga` without a prior.

        Raises:
            GradwireError: no examples of its own, or targets that are no classes.
        """
        own, domain = examples(self.name, problems[0]), problems[0].view.task.domain
        if own.targets.is_floating_point() or own.targets.ndim != 1:
            raise GradwireError(f"{self.name}: targets are {tuple(own.targets.shape[1:])} numbers; it needs classes")
        everything = own.inputs.mean(0)
        classes = torch.stack([problem.targets.cpu() for problem in problems])
        inputs = torch.empty(*classes.shape, *domain.shape, dtype=domain.dtype)
        for label in classes.unique():
            of = own.inputs[own.targets == label]
            inputs[classes == label] = domain.snapped(of.mean(0) if len(of) else everything)
        progress(ATTACKING, len(problems), len(problems))
        return scored(problems, inputs, device, (f"class-mean has {len(own.inputs)} of {own.source}",))
