"""Measurements that say less than a value: a sign, a quantisation cell.

To the usual objectives such a term looks like the decoded gradient. It also tells by how much a candidate contradicts
what was sent, its *violation* (zero if and only if the candidate could have been sent as this), and how likely what was
sent is if Gaussian noise was added to a candidate's gradient before the rounding.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Self

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Dense, Term

EPSILON = 1e-30
NARROW = 1e-3
"""The least width of a cell, in standard deviations: rounding would hide the difference of two Φ in narrower ones."""


@dataclass(frozen=True)
class Signs(Term):
    """The sign of every entry; A(G) = G wherever it is known.

    Attributes:
        observed: the decoded gradient, shape (V, *parameter): its sign is what was sent; 0 where it is not known.
    """

    def apply(self, gradient: Gradient) -> Tensor:
        """G, zero where the sign is not known."""
        return gradient.full() * (self.observed != 0)

    def plus(self, known: Gradient) -> Self:
        """Refused: the sign of G says nothing of that of G + known."""
        raise GradwireError("what was sent holds signs of a sum; no sign of one of its parts follows from them")

    def violation(self, gradient: Gradient) -> Tensor:
        """The share of ‖G‖₁ that has the wrong sign, in [0, 1]."""
        known = self.apply(gradient)
        wrong = (-known * self.observed.sign()).clamp_min(0).flatten(1).sum(1)
        return wrong / known.abs().flatten(1).sum(1).clamp_min(EPSILON)

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−Σ log Φ(sign·G/σ). Signs have no unit, so σ is to G as the noise is to what was decoded."""
        known, entries = self.apply(gradient).flatten(1), (self.observed != 0).flatten(1)
        strength, sent = (x.square().sum(1).clamp_min(EPSILON) for x in (known, self.observed.flatten(1)))
        sigma = (variance * strength / sent).sqrt()
        right = known * self.observed.flatten(1).sign() / sigma[:, None]
        return -(torch.special.log_ndtr(right) * entries).sum(1)


@dataclass(frozen=True)
class Cells(Dense):
    """The quantisation cell of every entry, |G − y| ≤ width; A(G) = G.

    Attributes:
        observed: y, shape (V, *parameter).
        width: how far a value may be from the level to which it was rounded, of the shape of `observed`.
    """

    width: Tensor

    def times(self, factor: float) -> Self:
        """The cells grow with what they hold."""
        return replace(self, observed=factor * self.observed, width=factor * self.width)

    def violation(self, gradient: Gradient) -> Tensor:
        """The excess over the cells' edges, divided by the outer edges |y| + width, so that scales cancel."""
        excess = ((gradient.full() - self.observed).abs() - self.width).clamp_min(0).flatten(1).sum(1)
        return excess / (self.observed.abs() + self.width).flatten(1).sum(1).clamp_min(EPSILON)

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−Σ log(Φ((y + w − G)/σ) − Φ((y − w − G)/σ)), w the width."""
        sigma = variance.sqrt()[:, None]
        off = (gradient.full() - self.observed).flatten(1).abs() / sigma
        width = (self.width.flatten(1) / sigma).clamp_min(NARROW)
        # log(Φ(b) − Φ(a)) = log Φ(b) + log(1 − e^−d), d = log Φ(b) − log Φ(a). Outside the cell the squares in d, which
        # would drown all else, are subtracted as such: Φ(x) = e^(−x²/2)·erfcx(−x/√2)/2.
        near, far = torch.special.log_ndtr(width - off), torch.special.log_ndtr(-width - off)
        edges = ((off - width).clamp_min(0) / sqrt(2), (off + width) / sqrt(2))
        tails = [torch.special.erfcx(edge).clamp_min(EPSILON).log() for edge in edges]
        d = torch.where(off < width, near - far, 2 * off * width + tails[0] - tails[1])
        return -(near + (-torch.expm1(-d)).log()).sum(1)
