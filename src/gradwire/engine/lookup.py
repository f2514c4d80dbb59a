"""Lookups: the gradient of an embedding, which has rows for the tokens of a batch alone; and sums of gradients.

A batch looks up L of the n rows of m numbers each. Most products of the gradient need these L slopes only, so that n·m
numbers a victim are not formed.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from gradwire.schemes.gradients import Full, Gradient


class LookedUp(Gradient):
    """Gradients of one embedding: row i is the sum of the slopes at the places where i was looked up.

    Args:
        places: the rows that were looked up, int64 (V, L).
        delta: the slopes there, (V, L, m).
        shape: of the weight, (n, m).
    """

    def __init__(self, places: Tensor, delta: Tensor, shape: tuple[int, ...]):
        self.places, self.delta, self.shape = places, delta, shape

    def __len__(self) -> int:
        return len(self.delta)

    def rows(self, rows: slice | Tensor) -> "LookedUp":
        """The gradients of some victims: a slice, or numbers as int64 (R,)."""
        return LookedUp(self.places[rows], self.delta[rows], self.shape)

    @cached_property
    def matrix(self) -> Tensor:
        """G, shape (V, n, m)."""
        return self._spread(self.delta)

    def full(self) -> Tensor:
        """G, shape (V, n, m)."""
        return self.matrix

    def some(self, kept: Tensor) -> Tensor:
        """Some rows of G, (V, R, m): where other rows were looked up, slopes go to one that is cut off."""
        place = torch.full((self.shape[0],), len(kept), device=kept.device)
        place[kept] = torch.arange(len(kept), device=kept.device)
        return LookedUp(place[self.places], self.delta, (len(kept) + 1, *self.shape[1:])).matrix[:, :-1]

    def square(self) -> Tensor:
        """‖G‖² = Σ δ_k·δ_l over pairs of places that looked up the same row; shape (V,)."""
        same = (self.places[:, :, None] == self.places[:, None, :]).to(self.delta.dtype)
        return ((self.delta @ self.delta.mT) * same).sum((1, 2))

    def inner(self, target: Tensor) -> Tensor:
        """⟨G, T⟩ = Σ δ_k·T[i_k]; shape (V,)."""
        return (self.delta * self._met(target)).sum((1, 2))

    def right(self, q: Tensor) -> Tensor:
        """G·Q, shape (V, n, r): the rows of δ·Q."""
        return self._spread(self.delta @ q)

    def left(self, p: Tensor) -> Tensor:
        """Gᵀ·P = Σ δ_k·P[i_k]ᵀ, shape (V, m, r)."""
        return self.delta.mT @ self._met(p)

    def _met(self, matrix: Tensor) -> Tensor:
        """The rows of matrices (V, n, r) that were looked up, (V, L, r)."""
        return torch.take_along_dim(matrix, self.places.unsqueeze(2), 1)

    def _spread(self, values: Tensor) -> Tensor:
        """The sums of values (V, L, r) by row, (V, n, r)."""
        empty = values.new_zeros(len(values), self.shape[0], values.shape[2])
        return empty.scatter_add(1, self.places.unsqueeze(2).expand_as(values), values)


class Summed(Gradient):
    """The sum of gradients of one parameter that is used in several places, as a tied embedding is.

    Args:
        parts: one a place, each of V victims.
    """

    def __init__(self, parts: Sequence[Gradient]):
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts[0])

    def rows(self, rows: slice | Tensor) -> "Summed":
        """The gradients of some victims."""
        return Summed([part.rows(rows) for part in self.parts])

    @cached_property
    def matrix(self) -> Tensor:
        """G, shape (V, *parameter)."""
        first, *others = (part.full() for part in self.parts)
        return sum(others, start=first)

    def full(self) -> Tensor:
        """G, shape (V, *parameter)."""
        return self.matrix

    def some(self, kept: Tensor) -> Tensor:
        """Some rows of G, (V, R, m)."""
        return torch.stack([part.some(kept) for part in self.parts]).sum(0)

    def inner(self, target: Tensor) -> Tensor:
        """⟨G, T⟩, shape (V,)."""
        return torch.stack([part.inner(target) for part in self.parts]).sum(0)

    def right(self, q: Tensor) -> Tensor:
        """G·Q, shape (V, n, r)."""
        return torch.stack([part.right(q) for part in self.parts]).sum(0)

    def left(self, p: Tensor) -> Tensor:
        """Gᵀ·P, shape (V, m, r)."""
        return torch.stack([part.left(p) for part in self.parts]).sum(0)

    def entries(self, indices: Tensor) -> Tensor:
        """G at flat positions (V, K)."""
        return torch.stack([part.entries(indices) for part in self.parts]).sum(0)


def embedding(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """Row i collects the slopes at the places where i was looked up, but for the row of padding.

    Positions that are the same for every example are one lookup with a slope for each.
    """
    assert isinstance(layer, nn.Embedding)
    places, delta = inputs.reshape(victims, -1), slope.reshape(victims, -1, slope.shape[-1])
    if layer.padding_idx is not None:
        delta = delta * (places != layer.padding_idx).unsqueeze(-1)
    found = LookedUp(places, delta, tuple(layer.weight.shape))
    # Where rows are fewer than lookups (positions, kinds of sentence), they are the smaller form.
    return {"weight": Full(found.full()) if layer.num_embeddings <= places.shape[1] else found}
