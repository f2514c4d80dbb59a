"""Measurements that say less than a value and more than nothing: a sign, a quantisation cell.

Towards the usual objectives such a term looks like the decoded gradient. Beyond that it tells by how much a
candidate breaks what was sent, its *violation*: zero if and only if the candidate could have been sent as this.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Moments, Term

EPSILON = 1e-30


@dataclass(frozen=True)
class Constraint(Term):
    """A term that also knows which gradients it excludes."""

    @abstractmethod
    def violation(self, gradient: Gradient) -> Tensor:
        """How far gradients are from what is possible: shape (V,), zero where consistent."""


@dataclass(frozen=True)
class Signs(Constraint):
    """The sign of every entry; A(G) = G wherever it is known.

    Attributes:
        observed: the decoded gradient, shape (V, *parameter): its sign is what was sent; 0 where it is not known.
    """

    def apply(self, gradient: Gradient) -> Tensor:
        """G, zero where the sign is not known."""
        return gradient.full() * (self.observed != 0)

    def plus(self, known: Gradient) -> Self:
        """Refused: what is known of G's sign says nothing of that of G + known."""
        raise GradwireError("what was sent holds signs of a sum; no sign of one of its parts follows from them")

    def violation(self, gradient: Gradient) -> Tensor:
        """The share of ‖G‖₁ that has the wrong sign, in [0, 1]; the scale of G does not matter."""
        known = self.apply(gradient)
        wrong = (-known * self.observed.sign()).clamp_min(0).flatten(1).sum(1)
        return wrong / known.abs().flatten(1).sum(1).clamp_min(EPSILON)


@dataclass(frozen=True)
class Cells(Constraint):
    """Every entry to within its quantisation cell, |G − y| ≤ width; A(G) = G.

    Attributes:
        observed: y, shape (V, *parameter).
        width: how far a value may be from the level that it was rounded to, of the shape of `observed`.
    """

    width: Tensor

    def times(self, factor: float) -> Self:
        """The cells grow with what they hold."""
        return replace(self, observed=factor * self.observed, width=factor * self.width)

    def apply(self, gradient: Gradient) -> Tensor:
        """G."""
        return gradient.full()

    def moments(self, gradient: Gradient) -> Moments:
        """⟨G, y⟩ and ‖G‖², for which G itself need not be formed."""
        return gradient.inner(self.observed), gradient.square()

    def violation(self, gradient: Gradient) -> Tensor:
        """What sticks out of the cells, over the cells' outer edges |y| + width; common scales cancel."""
        excess = ((gradient.full() - self.observed).abs() - self.width).clamp_min(0).flatten(1).sum(1)
        return excess / (self.observed.abs() + self.width).flatten(1).sum(1).clamp_min(EPSILON)
