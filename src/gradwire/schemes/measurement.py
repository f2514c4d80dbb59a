"""Measurements: a scheme's differentiable map of the update, and the observed result, to compare candidates with.

A measurement holds terms for each parameter. A term is a linear map A of that parameter's gradient G and the observed
value y; an attack looks for inputs whose gradient gives A(G) ≈ y. The usual objectives need three numbers of each term
and victim, its *moments*: ⟨A(G), y⟩, ‖A(G)‖² and ‖y‖².

A term holds a stack of victims in its leading dimension V. A scheme makes terms with V = 1, and `stack` joins those of
many victims.

Signs and quantisation cells say less than a value. To the usual objectives they look like the decoded gradient. They
also tell by how much a candidate contradicts what was sent, its *violation* (zero if and only if the candidate could
have been sent as this), and how likely what was sent is if a candidate's gradient got Gaussian noise before rounding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.errors import GradwireError
from gradwire.schemes.gradients import Gradient

EPSILON = 1e-30
NARROW = 1e-3
"""The least width of a cell, in standard deviations: rounding would hide the difference of two Φ in narrower ones."""
Moments = tuple[Tensor, Tensor]
"""⟨A(G), y⟩ and ‖A(G)‖², each of shape (V,)."""


@dataclass(frozen=True)
class Term(ABC):
    """A linear map of one parameter's gradient and what was observed of it.

    Attributes:
        observed: y, shape (V, …).
    """

    observed: Tensor

    @abstractmethod
    def apply(self, gradient: Gradient) -> Tensor:
        """A(G), of the shape of `observed`."""

    def moments(self, gradient: Gradient) -> Moments:
        """⟨A(G), y⟩ and ‖A(G)‖²."""
        measured = self.apply(gradient).flatten(1)
        return (measured * self.observed.flatten(1)).sum(1), measured.square().sum(1)

    def distance(self, gradient: Gradient) -> Tensor:
        """‖A(G) − y‖², shape (V,), from the difference itself: from the moments, rounding would hide a small one."""
        return (self.apply(gradient) - self.observed).flatten(1).square().sum(1)

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """−log p(y | G), shape (V,), up to a constant; by default y is A(G) and Gaussian noise.

        Args:
            variance: of the noise in each entry of y, shape (V,).
        """
        return self.distance(gradient) / (2 * variance)

    def times(self, factor: float) -> Self:
        """The term of an update `factor` times as large, factor > 0: A(factor·G) = factor·y."""
        return replace(self, observed=factor * self.observed)

    def plus(self, known: Gradient) -> Self:
        """The term of an update with a known part added: A(G + known) = y + A(known)."""
        return replace(self, observed=self.observed + self.apply(known))

    def nearest(self, updates: Tensor) -> Tensor:
        """The updates next to these, (V, *parameter), of which y could have been sent: A(G) = y.

        Raises:
            GradwireError: what was sent is no linear map's value.
        """
        raise GradwireError(f"what was sent ({type(self).__name__.lower()}) is no linear map's value of the update")

    def counts(self) -> Tensor:
        """How many numbers y holds of each victim, shape (V,)."""
        return self.observed.new_full((len(self.observed),), self.observed[0].numel())

    def violation(self, gradient: Gradient) -> Tensor | None:
        """How far gradients are from those that are possible, shape (V,); None where every gradient is."""
        return None

    @property
    def key(self) -> tuple[object, ...]:
        """Terms with equal keys can be stacked."""
        return (type(self), *(tuple(t.shape[1:]) for t in self._tensors()))

    @classmethod
    def stack(cls, terms: Sequence[Self]) -> Self:
        """One term with the victims of all of them."""
        columns = zip(*(term._tensors() for term in terms), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def rows(self, rows: Tensor) -> Self:
        """The term of some victims, int64 (R,), each as often as it is named."""
        return type(self)(*(t[rows] for t in self._tensors()))

    def repeat(self, count: int) -> Self:
        """The term of one victim as that of `count` equal victims, without a copy."""
        return type(self)(*(t.expand(count, *t.shape[1:]) for t in self._tensors()))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same term elsewhere; `dtype` applies to floating-point tensors."""
        return type(self)(*(t.to(device, dtype if t.is_floating_point() else None) for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return tuple(vars(self).values())


@dataclass(frozen=True)
class Dense(Term):
    """The gradient itself: A(G) = G."""

    def apply(self, gradient: Gradient) -> Tensor:
        """G."""
        return gradient.full()

    def moments(self, gradient: Gradient) -> Moments:
        """⟨G, y⟩ and ‖G‖², for which G itself need not be formed."""
        return gradient.inner(self.observed), gradient.square()

    def nearest(self, updates: Tensor) -> Tensor:
        """Y."""
        return self.observed


@dataclass(frozen=True)
class Support(Term):
    """Some entries of the gradient: A(G) = G[indices].

    Attributes:
        observed: shape (V, K).
        indices: int64 positions in the flattened parameter, shape (V, K).
        weight: 1 where an entry counts and 0 where it pads a victim with fewer of them, shape (V, K).
    """

    indices: Tensor
    weight: Tensor

    @classmethod
    def at(cls, indices: Tensor, values: Tensor) -> Self:
        """The term of one victim: `values` (K,) were observed at `indices` (K,)."""
        return cls(values[None], indices[None], torch.ones_like(values)[None])

    def apply(self, gradient: Gradient) -> Tensor:
        """G at the indices; zero where padded."""
        return gradient.entries(self.indices) * self.weight

    def nearest(self, updates: Tensor) -> Tensor:
        """Y at the indices."""
        flat = updates.flatten(1)
        missing = (self.observed - flat.gather(1, self.indices)) * self.weight
        return flat.scatter_add(1, self.indices, missing).view_as(updates)

    def counts(self) -> Tensor:
        """Entries that are not padding, shape (V,)."""
        return self.weight.sum(1)

    @property
    def key(self) -> tuple[object, ...]:
        """Any two supports can be stacked: the shorter is padded."""
        return (type(self),)

    @classmethod
    def stack(cls, terms: Sequence[Self]) -> Self:
        """One term with the victims of all of them, padded to the largest K."""
        width = max(term.indices.shape[1] for term in terms)
        columns = zip(*(term._tensors() for term in terms), strict=True)
        return cls(*(torch.cat([pad(t, (0, width - t.shape[1])) for t in column]) for column in columns))


@dataclass(frozen=True)
class RightSketch(Term):
    """The gradient as a matrix (n, m) times a known one: A(G) = G·Q.

    Attributes:
        observed: shape (V, n, r).
        right: Q, shape (V, m, r).
    """

    right: Tensor

    def apply(self, gradient: Gradient) -> Tensor:
        """G·Q."""
        return gradient.right(self.right)

    def nearest(self, updates: Tensor) -> Tensor:
        """G + (y − G·Q)·Q⁺."""
        matrices = updates.flatten(2)
        missing = self.observed - matrices @ self.right
        return (matrices + missing @ torch.linalg.pinv(self.right)).view_as(updates)


@dataclass(frozen=True)
class LeftSketch(Term):
    """The transposed gradient as a matrix (m, n) times a known one: A(G) = Gᵀ·P.

    Attributes:
        observed: shape (V, m, r).
        left: P, shape (V, n, r).
    """

    left: Tensor

    def apply(self, gradient: Gradient) -> Tensor:
        """Gᵀ·P."""
        return gradient.left(self.left)

    def nearest(self, updates: Tensor) -> Tensor:
        """G + (P⁺)ᵀ·(y − Gᵀ·P)ᵀ."""
        matrices = updates.flatten(2)
        missing = self.observed - matrices.mT @ self.left
        return (matrices + torch.linalg.pinv(self.left).mT @ missing.mT).view_as(updates)


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

    def nearest(self, updates: Tensor) -> Tensor:
        """The edge of the cell, where an entry is beyond it."""
        return torch.minimum(torch.maximum(updates, self.observed - self.width), self.observed + self.width)

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


Measurement = Mapping[str, Sequence[Term]]
"""One victim's terms, parameter name → terms. A parameter may be missing."""


def dense(update: Mapping[str, Tensor]) -> dict[str, list[Term]]:
    """The measurement that takes `update` for the gradient itself."""
    return {name: [Dense(tensor[None])] for name, tensor in update.items()}
