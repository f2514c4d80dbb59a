"""What the closed forms have in common."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import readable, solve
from gradwire.attacks.inversion.exact.matrices import rank, whole
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.wire import View


@dataclass(frozen=True)
class Solution:
    """What a closed form gives for one victim, before it is checked.

    Attributes:
        inputs: shape (B, *shape); they may lie outside the domain.
        determined: whether each number of each input follows. What does not follow may explain what was sent and yet be
            another: an input that gives no slope leaves no trace.
        told: how far inputs are determined, in words.
    """

    inputs: Tensor
    determined: bool
    told: str


class ClosedForm(Protocol):
    """One closed form, for a network that it fits."""

    name: ClassVar[str]

    def solution(self, problem: Problem, random: torch.Generator) -> Solution:
        """A victim's inputs; GradwireError where what was sent is not what it needs."""


@dataclass(frozen=True)
class AnalyticRows:
    """The rows of a first linear layer, as `analytic` reads them."""

    name: ClassVar[str] = "analytic"

    layer: FirstLayer

    @classmethod
    def of(cls, view: View) -> "AnalyticRows":
        """For a view's network; GradwireError where it begins with another layer."""
        return cls(FirstLayer.of(view.model, view.task, view.mode, view.shape))

    def solution(self, problem: Problem, random: torch.Generator) -> Solution:
        """See `analytic.solve`. A batch is determined if its gradient has as high a rank."""
        known, as_sent = readable(problem, self.layer)
        found = solve(problem, self.layer, *known)
        if found is None:
            raise GradwireError("analytic finds no row with a slope")
        batch, terms = problem.view.shape[0], problem.measurement.get(self.layer.weight, ())
        determined = bool(known[0].known.any(0).all()) and as_sent
        if batch > 1:
            weight = whole(terms, known[0].values.shape, batch)
            determined = weight is not None and rank(weight.to(terms[0].observed.dtype)) >= batch
        return Solution(found[0], determined, "rows were sent as they are" if as_sent else "what was sent was decoded")
