"""A weight's gradient as a product, G = Δ·Uᵀ, for many victims at once.

Objectives seldom need G itself. With L positions, n outputs and m inputs:

- ⟨G, T⟩ = Σ (T·U)∘Δ takes one product of n·m·L, and its slope one more; forming G and going back takes three.
- ‖G‖² = Σ (ΔᵀΔ)∘(UᵀU) takes (n + m)·L² in place of n·m elements read and written several times.
- G·Q = Δ·(UᵀQ) and Gᵀ·P = U·(ΔᵀP) take (n + m)·L·r.

So G is formed only where positions are many and the two Gram matrices would be larger than it.
"""

from functools import cached_property

import torch
from torch import Tensor

from gradwire.schemes.gradients import Gradient

SPARSE, MANY = 8, 40
"""Gathering an entry from L positions costs about SPARSE·L times what writing an entry of G does. In the product that
forms G, arithmetic costs as much as writing at about MANY positions. Measured with both backward passes, on a CPU."""


class Factored(Gradient):
    """Gradients of one weight.

    Args:
        delta: Δ, slopes at the layer's outputs, shape (V, n, L).
        inputs: U, what the weight was multiplied with, shape (V, m, L).
        shape: of the weight, n·m entries.
    """

    def __init__(self, delta: Tensor, inputs: Tensor, shape: tuple[int, ...]):
        self.delta, self.inputs, self.shape = delta, inputs, shape

    def __len__(self) -> int:
        return len(self.delta)

    def rows(self, rows: slice | Tensor) -> "Factored":
        """The gradients of some victims: a slice, or numbers as int64 (R,)."""
        return Factored(self.delta[rows], self.inputs[rows], self.shape)

    @property
    def by_gram(self) -> bool:
        """Whether G is not formed yet and L·(n + m) < n·m."""
        (_, n, positions), m = self.delta.shape, self.inputs.shape[1]
        return "matrix" not in self.__dict__ and positions * (n + m) < n * m

    @cached_property
    def matrix(self) -> Tensor:
        """G, shape (V, n, m)."""
        return self.delta @ self.inputs.mT

    def full(self) -> Tensor:
        """G, shape (V, *parameter)."""
        return self.matrix.view(len(self), *self.shape)

    def some(self, kept: Tensor) -> Tensor:
        """Some rows of G, (V, R, m)."""
        return self.delta[:, kept] @ self.inputs.mT

    def square(self) -> Tensor:
        """‖G‖², shape (V,)."""
        if self.by_gram:
            return ((self.delta.mT @ self.delta) * (self.inputs.mT @ self.inputs)).sum((1, 2))
        return self.matrix.square().sum((1, 2))

    def inner(self, target: Tensor) -> Tensor:
        """⟨G, T⟩, shape (V,)."""
        flat = target.flatten(2)
        if self.by_gram:
            return ((flat @ self.inputs) * self.delta).sum((1, 2))
        return (self.matrix * flat).sum((1, 2))

    def right(self, q: Tensor) -> Tensor:
        """G·Q, shape (V, n, r)."""
        return self.delta @ (self.inputs.mT @ q)

    def left(self, p: Tensor) -> Tensor:
        """Gᵀ·P, shape (V, m, r)."""
        return self.inputs @ (self.delta.mT @ p)

    def entries(self, indices: Tensor) -> Tensor:
        """G at flat positions (V, K)."""
        (_, n, positions), m = self.delta.shape, self.inputs.shape[1]
        if "matrix" in self.__dict__ or SPARSE * indices.shape[1] * min(positions, MANY) > n * m:
            return self.matrix.flatten(1).gather(1, indices)
        pairs = ((self.delta, indices // m), (self.inputs, indices % m))
        delta, inputs = (torch.take_along_dim(x, rows.unsqueeze(2), 1) for x, rows in pairs)
        return (delta * inputs).sum(2)
