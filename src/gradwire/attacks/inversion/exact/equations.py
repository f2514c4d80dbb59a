"""The linear equations for what a layer received: the weight and gradient constraints of R-GAP (see `rgap`).

They are solved as normal equations, by Cholesky with refinement. What ∂W tells of a channel has the same matrix for
each channel, so that the matrix of all is made without one of the equations being written down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from gradwire.attacks.inversion.exact.chain import Layer
from gradwire.attacks.inversion.exact.matrices import sketches, whole
from gradwire.errors import GradwireError
from gradwire.schemes.measurement import Term

ROUNDING = 2.0
"""Errors of a gradient that was computed, in units of its type's precision times its usual entry."""
OPEN = 1e-13
"""Reciprocal condition of the normal equations below which they leave directions open."""
CONTRADICT = 1e-2
"""The share of what equations say, as a norm, that may be left of them: rounding, for the equations of one image."""
REFINED = 3


@dataclass(frozen=True)
class Equations:
    """W*x = z − b and K*x = D; two of each, which differ by rounding.

    Attributes:
        due: z − b, (2, o, …).
        steep: how much each of these counts, (1, o, …): σ'(z), for what is off in σ(z) is off by 1/σ'(z) in z. Of a
            ReLU that is off nothing is known.
        slopes: K, (2, r, P), and D, (2, r, c·k), as `gradient`.
    """

    layer: Layer
    due: Tensor
    steep: Tensor
    slopes: Tensor
    gradient: Tensor

    @classmethod
    def of(
        cls, layer: Layer, terms: Sequence[Term], z: Tensor, steep: Tensor, slopes: Tensor, random: torch.Generator
    ) -> "Equations":
        """Of what was sent of ∂W, its outputs z and the slopes k there, (2, o, …): ∂W = k*x, or Pᵀ·∂W = (Pᵀk)*x."""
        due, k = z - layer.bias.view(1, -1, 1, 1), slopes.flatten(2)
        gradient, left = whole(terms, layer.weight.shape, k.shape[2]), sketches(terms)[1]
        if gradient is not None:
            return cls(layer, due, steep, k, twice(gradient.flatten(1), terms, random))
        if left is not None:
            k = left.left[0].double().cpu().mT @ k
            return cls(layer, due, steep, k, twice(left.observed[0].mT, terms, random))
        return cls(layer, due, steep, k[:, :0], due.new_zeros(2, 0, layer.weight[0].numel()))

    def solved(self) -> Tensor:
        """x, (2, c·h·w).

        Raises:
            GradwireError: the equations leave x open, or contradict each other.
        """
        from scipy.linalg.lapack import dpocon  # type: ignore[import-untyped]

        layer, size = self.layer, prod(self.layer.shape)
        enough(layer, min(self.slopes.shape[1:]), self.steep.numel())
        matrix, weigh = self._normal()
        factor, singular = torch.linalg.cholesky_ex(matrix)
        if singular or float(dpocon(factor.numpy(), float(torch.linalg.matrix_norm(matrix, 1)), uplo="L")[0]) < OPEN:
            raise GradwireError(f"rgap: what was sent leaves numbers open that enter {layer.name!r}")
        found = matrix.new_zeros(2, size)
        right, said = self._left(found, weigh)
        for _ in range(REFINED):
            found = found + torch.cholesky_solve(right.mT, factor).mT
            right, off = self._left(found, weigh)
        if not off <= CONTRADICT * said:
            raise GradwireError(f"rgap: the equations of {layer.name!r} contradict each other; no one image has them")
        return found

    def _normal(self) -> tuple[Tensor, float]:
        """The matrix of the normal equations (N, N), and how much an equation of the gradient counts in it."""
        layer, (c, h, w) = self.layer, self.layer.shape
        weight, steep = layer.weight.flatten(1), self.steep[0].flatten(1)
        outputs = torch.einsum("oj,op,ok->pjk", weight, steep.square(), weight)
        matrix = added(outputs, layer.met(c).mT, c * h * w)
        products, met = self.slopes[0].mT @ self.slopes[0], layer.met(1)
        channel = added(products.expand(len(met), -1, -1), met, h * w)
        weigh = float(matrix.trace() / (c * channel.trace())) if bool(products.any()) else 0.0
        matrix.view(c, h * w, c, h * w).diagonal(dim1=0, dim2=2).add_(weigh * channel[..., None])
        return matrix, weigh

    def _left(self, found: Tensor, weigh: float) -> tuple[Tensor, float]:
        """The normal equations' right side (2, N) for what is left of the equations, and the norm of what is left."""
        inputs = found.view(2, *self.layer.shape)
        outputs = self.steep * (self.due - self.layer(inputs))
        gradient = self.gradient - self.slopes @ self.layer.patches(inputs).mT
        right = self.layer.back(self.steep * outputs) + weigh * self.layer.folded(gradient.mT @ self.slopes)
        return right.flatten(1), float((outputs[0].square().sum() + weigh * gradient[0].square().sum()).sqrt())


def enough(layer: Layer, slopes: int, outputs: int) -> None:
    """The paper's rank analysis: refuse equations whose rank is too small, however they turn out.

    Of each channel of x, ∂W tells as many numbers as a kernel has for each of so many independent slopes.
    """
    channel = min(prod(layer.shape[1:]), slopes * prod(layer.weight.shape[2:]))
    equations, size = outputs + layer.shape[0] * channel, prod(layer.shape)
    if equations < size:
        told = f"{equations:,} independent equations at most for the {size:,} numbers"
        raise GradwireError(f"rgap has {told} that enter {layer.name!r}")


def twice(sent: Tensor, terms: Sequence[Term], random: torch.Generator) -> Tensor:
    """What was sent, and the same with further rounding errors of its type, drawn at random; float64 (2, …)."""
    sent, size = sent.double().cpu(), ROUNDING * torch.finfo(terms[0].observed.dtype).eps
    drawn = torch.randn(sent.shape, generator=random, dtype=torch.float64)
    return torch.stack([sent, sent + size * sent.square().mean().sqrt() * drawn])


def added(blocks: Tensor, places: Tensor, size: int) -> Tensor:
    """A matrix (size, size) to which blocks (M, k, k) are added, each at the rows and columns of its places (M, k).

    Places count from 1; what is at place 0 is padding, and left out.
    """
    side = size + 1
    flat = (places[:, :, None] * side + places[:, None, :]).flatten()
    return blocks.new_zeros(side * side).index_add_(0, flat, blocks.flatten()).view(side, side)[1:, 1:]
