"""LQ-SGD: PowerSGD whose factors P and Q are sent as logarithmic levels of a few bits.

H. Li, L. Bai, C. Wu, M. Chadli, S. Mammar, P. Bouvry, "Trustworthy efficient communication for distributed learning
using LQ-SGD algorithm", 2025 (arXiv:2506.17974): one step of subspace iteration with error feedback, its factors under
the quantiser q(x) = sign(x)·log(1 + α|x|) / log(1 + α), which is finest near zero. A factor is divided by its largest
magnitude, and q is rounded to the nearest of its levels. P is made orthonormal after the mean, as by PowerSGD: the mean
of bases that each client made orthonormal would not be. With one client of rank 1 that changes the length of P̂ alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log1p
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes.gradients import Full, Gradient
from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Cells, Term
from gradwire.schemes.powersgd import Factorisation, Matrices, PowerSGD
from gradwire.schemes.round import Round, State
from gradwire.schemes.scheme import exactly
from gradwire.wire import Send, Tensors, bits

UNKNOWN = 1e6
"""The width of a cell that nobody knows, in units of the factor's largest magnitude: nothing is outside it."""


@dataclass(frozen=True)
class LQSGD(PowerSGD):
    """Low-rank compression with logarithmic levels. What would not shrink is sent dense, as by PowerSGD.

    Attributes:
        bits: of an entry of a factor, with its sign: 2 to 8. There are s = 2^(bits − 1) − 1 levels above zero.
        alpha: α, above 0: the larger, the more of the levels are near zero. Both defaults are gradwire's.
    """

    name: ClassVar[str] = "lqsgd"

    bits: int = 8
    alpha: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.bits <= bits.MAX_BITS:
            raise GradwireError(f"lqsgd: bits is {self.bits}; it must be in 2 to {bits.MAX_BITS}")
        if not self.alpha > 0:
            raise GradwireError(f"lqsgd: alpha is {self.alpha}; it must be above 0")

    @property
    def levels(self) -> int:
        """s, the number of levels above zero."""
        return (1 << (self.bits - 1)) - 1

    def message(self, phase: str, factors: Matrices, layout: Layout, beside: Tensors) -> Send:
        """The factors' levels, which the server has to read before it can take a mean."""
        return Send(phase, {**self.quantise(factors, layout), **beside})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """A code for each entry of the factors, a magnitude for each factor; with P, what is sent dense."""
        plan, dtype = Factorisation.of(round.layout, self.rank), round.layout.dtype
        size = plan.p.size if phase == "P" else plan.q.size
        shapes = {"codes": (bits.packed_size(size, self.bits),), "scales": (len(plan.shapes),)}
        shapes |= {"dense": (plan.rest.size,)} if phase == "P" else {}
        exactly(tensors, shapes, {"codes": torch.uint8, "scales": dtype, "dense": dtype})
        if (bits.unpack(tensors["codes"], size, self.bits) > 2 * self.levels).any():
            raise WireError(f"'codes' holds a code above {2 * self.levels}, the highest level's")

    def quantise(self, factors: Matrices, layout: Layout) -> dict[str, Tensor]:
        """The nearest level to q of every entry, packed, and each factor's largest magnitude, its entries' unit."""
        scales = {name: factor.abs().max() for name, factor in factors.items()}
        shares = {name: f / scales[name].clamp_min(torch.finfo(f.dtype).tiny) for name, f in factors.items()}
        flat = layout.flatten(shares)
        levels = (self.levels * flat.sign() * torch.log1p(self.alpha * flat.abs()) / log1p(self.alpha)).round()
        codes = bits.pack((levels + self.levels).to(torch.uint8), self.bits)
        return {"codes": codes, "scales": _each(layout).flatten(scales)}

    def opened(self, sent: Tensors, layout: Layout) -> dict[str, Tensor]:
        """What a client's message stands for: the values of its levels as `mean`, the rest as it is."""
        if "mean" in sent:
            return dict(sent)
        levels, units = self._read(sent, layout)
        rest = {name: tensor for name, tensor in sent.items() if name == "dense"}
        return {"mean": units * self._value(levels), **rest}

    def read(self, sent: Tensors, phase: str, layout: Layout) -> Tensor:
        """What its levels stand for, or the mean that the server has formed."""
        return self.opened(sent, layout)["mean"]

    def terms(self, phase: str, sent: Tensors, layout: Layout, by: Matrices) -> Mapping[str, Term]:
        """The cells of each matrix's products."""
        cells, kind = self._cells(sent, layout), RightCells if phase == "P" else LeftCells
        return {name: kind(*cell, by[name][None]) for name, cell in cells.items()}

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of what the others' levels stand for: nobody learns the levels."""
        plan, n = Factorisation.of(round.layout, self.rank), len(round.clients)
        mine = self.opened(own, plan.p if "dense" in own else plan.q)
        return {name: (n * reply[name] - mine[name]) / (n - 1) for name in mine}

    def _value(self, levels: Tensor) -> Tensor:
        """q⁻¹ of levels (or of the edges between them) over s: from −1 to 1, which is as far as entries reach."""
        shares = levels.clamp(-self.levels, self.levels) / self.levels
        return shares.sign() * torch.expm1(shares.abs() * log1p(self.alpha)) / self.alpha

    def _read(self, sent: Tensors, layout: Layout) -> tuple[Tensor, Tensor]:
        """The level of every entry of the factors, and the magnitude that is its unit, both flat."""
        levels = bits.unpack(sent["codes"], layout.size, self.bits).to(layout.dtype) - self.levels
        units = _each(layout).unflatten(sent["scales"])
        return levels, layout.flatten({name: units[name].expand(shape) for name, shape in layout.shapes.items()})

    def _cells(self, sent: Tensors, layout: Layout) -> dict[str, tuple[Tensor, Tensor]]:
        """The middle and half the breadth of every entry's cell, (1, n, r) each; of a mean no cell is known."""
        if "mean" in sent:
            middle = layout.unflatten(sent["mean"])
            width = {name: UNKNOWN * torch.ones_like(each) * each.abs().max() for name, each in middle.items()}
        else:
            levels, units = self._read(sent, layout)
            low, high = units * self._value(levels - 0.5), units * self._value(levels + 0.5)
            middle, width = layout.unflatten((low + high) / 2), layout.unflatten((high - low) / 2)
        return {name: (middle[name][None], width[name][None]) for name in layout.shapes}


@dataclass(frozen=True)
class FactorCells(Term):
    """The cell of every entry of a factor, |A(G) − y| ≤ width.

    Attributes:
        observed: y, the cells' middles, shape (V, …, r).
        width: half their breadths, of the same shape.
        by: the orthonormal columns (V, …, r) by which the gradient was multiplied.
    """

    width: Tensor
    by: Tensor

    @property
    def cells(self) -> Cells:
        """The same cells, of the factor itself."""
        return Cells(self.observed, self.width)

    def times(self, factor: float) -> "FactorCells":
        """The cells grow with what they hold."""
        grown = self.cells.times(factor)
        return type(self)(grown.observed, grown.width, self.by)

    def violation(self, gradient: Gradient) -> Tensor:
        """As of `Cells`, of A(G)."""
        return self.cells.violation(Full(self.apply(gradient)))

    def surprise(self, gradient: Gradient, variance: Tensor) -> Tensor:
        """As of `Cells`, of A(G)."""
        return self.cells.surprise(Full(self.apply(gradient)), variance)


@dataclass(frozen=True)
class RightCells(FactorCells):
    """The cells of A(G) = G·Q."""

    def apply(self, gradient: Gradient) -> Tensor:
        """G·Q, shape (V, n, r)."""
        return gradient.right(self.by)

    def nearest(self, updates: Tensor) -> Tensor:
        """G + (y − G·Q)·Qᵀ, y the nearest point of the cells."""
        matrices = updates.flatten(2)
        found = matrices @ self.by
        return (matrices + (self.cells.nearest(found) - found) @ self.by.mT).view_as(updates)


@dataclass(frozen=True)
class LeftCells(FactorCells):
    """The cells of A(G) = Gᵀ·P̂."""

    def apply(self, gradient: Gradient) -> Tensor:
        """Gᵀ·P̂, shape (V, m, r)."""
        return gradient.left(self.by)

    def nearest(self, updates: Tensor) -> Tensor:
        """G + P̂·(y − Gᵀ·P̂)ᵀ, y the nearest point of the cells."""
        matrices = updates.flatten(2)
        found = matrices.mT @ self.by
        return (matrices + self.by @ (self.cells.nearest(found) - found).mT).view_as(updates)


def _each(layout: Layout) -> Layout:
    """One number for each of a layout's tensors."""
    return Layout(dict.fromkeys(layout.shapes, ()), layout.dtypes)
