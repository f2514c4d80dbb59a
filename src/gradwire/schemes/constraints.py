"""Measurements that say less than a value and more than nothing: a sign, a quantisation cell.

Towards the usual objectives such a term looks like the decoded gradient. Beyond that it tells by how much a
candidate breaks what was sent, its *violation*: zero if and only if the candidate could have been sent as this; and how
likely what was sent is, if Gaussian noise came between a candidate's gradient and the rounding.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from math import sqrt
from typing import Self

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Moments, Term

EPSILON = 1e-30
NARROW = 1e-3
"""Cells of fewer standard deviations than this are taken for as wide: the difference of two Φ would be lost."""


@dataclass(frozen=True)
class Constraint(Term):
    """A term that also knows which gradients it excludes."""

    @abstractmethod
    def violation(self, gradient: Gradient) -> Tensor:
        """How far gradients are from what is possible: shape (V,), zero where consistent."""

    @abstractmethod
    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−log of the probability that G and noise fall to where they were sent from; shape (V,)."""


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

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−Σ log Φ(sign·G/σ), σ as large beside G as the noise is beside what was decoded: signs have no unit."""
        known, entries = self.apply(gradient).flatten(1), (self.observed != 0).flatten(1)
        strength, sent = (x.square().sum(1).clamp_min(EPSILON) for x in (known, self.observed.flatten(1)))
        sigma = (variance * strength / sent).sqrt()
        right = known * self.observed.flatten(1).sign() / sigma[:, None]
        return -(torch.special.log_ndtr(right) * entries).sum(1)


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

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−Σ log(Φ((y + w − G)/σ) − Φ((y − w − G)/σ)), w the width; where w is far below σ, of the density."""
        sigma = variance.sqrt()[:, None]
        off = (gradient.full() - self.observed).flatten(1).abs() / sigma
        width = (self.width.flatten(1) / sigma).clamp_min(NARROW)
        # log(Φ(b) − Φ(a)) = log Φ(b) + log(1 − e^−d), d = log Φ(b) − log Φ(a). Outside the cell the squares in d are
        # taken out of it by hand, as Φ(x) = e^(−x²/2)·erfcx(−x/√2)/2: far out they would drown everything else.
        near, far = torch.special.log_ndtr(width - off), torch.special.log_ndtr(-width - off)
        edges = ((off - width).clamp_min(0) / sqrt(2), (off + width) / sqrt(2))
        tails = [torch.special.erfcx(edge).clamp_min(EPSILON).log() for edge in edges]
        d = torch.where(off < width, near - far, 2 * off * width + tails[0] - tails[1])
        return -(near + (-torch.expm1(-d)).log()).sum(1)
