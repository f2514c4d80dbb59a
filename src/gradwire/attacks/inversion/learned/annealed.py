"""Annealed inversion that begins where the learned inverter ends; its rehearsals begin there, too."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from gradwire.attacks.inversion.annealed.attack import Annealed
from gradwire.attacks.inversion.learned.attack import Learned
from gradwire.attacks.inversion.problem import Problem


@dataclass(frozen=True)
class AnnealedFromLearned(Annealed):
    """Annealed from the answers of an inverter, which was trained on other images than those that are rehearsed on."""

    name: ClassVar[str] = "annealed-from-learned"

    learned: Learned = field(default=Learned(), repr=False)

    def begun(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems, to begin at the inverter's answers."""
        starts = self.learned.run(problems).inputs
        return [replace(problem, begin=start) for problem, start in zip(problems, starts, strict=True)]
