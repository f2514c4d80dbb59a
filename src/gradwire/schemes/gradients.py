"""A parameter's gradients for many victims, and the few products that measurements take of them."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Gradient(ABC):
    """One parameter's gradients for V victims, in whatever form an engine has them.

    Every product is that of G itself unless an engine has a faster way to it.
    """

    @abstractmethod
    def __len__(self) -> int:
        """V."""

    @abstractmethod
    def rows(self, rows: slice | Tensor) -> "Gradient":
        """The gradients of some victims: a slice without gaps, or numbers as int64 (R,)."""

    @abstractmethod
    def full(self) -> Tensor:
        """G itself, shape (V, *parameter)."""

    def some(self, kept: Tensor) -> Tensor:
        """The rows `kept`, int64 (R,), of G as matrices (n, m): (V, R, m)."""
        return self.full().flatten(2)[:, kept]

    def square(self) -> Tensor:
        """‖G‖², shape (V,)."""
        return self.full().flatten(1).square().sum(1)

    def inner(self, target: Tensor) -> Tensor:
        """⟨G, T⟩ with T of shape (V, *parameter); shape (V,)."""
        return (self.full() * target).flatten(1).sum(1)

    def right(self, q: Tensor) -> Tensor:
        """G·Q for G as matrices (n, m) and Q of shape (V, m, r); shape (V, n, r)."""
        return self.full().flatten(2) @ q

    def left(self, p: Tensor) -> Tensor:
        """Gᵀ·P for P of shape (V, n, r); shape (V, m, r)."""
        return self.full().flatten(2).mT @ p

    def entries(self, indices: Tensor) -> Tensor:
        """G at flat positions, int64 (V, K); shape (V, K)."""
        return self.full().flatten(1).gather(1, indices)


class Full(Gradient):
    """Gradients as they are, shape (V, *parameter)."""

    def __init__(self, gradient: Tensor):
        self.gradient = gradient

    def __len__(self) -> int:
        return len(self.gradient)

    def rows(self, rows: slice | Tensor) -> "Full":
        """See `Gradient`."""
        return Full(self.gradient[rows])

    def full(self) -> Tensor:
        """See `Gradient`."""
        return self.gradient


class Mean(Gradient):
    """The means over groups of as many rows each: what is seen of several clients whose updates are summed.

    Args:
        each: the gradients of V groups of `size` rows, group by group.
    """

    def __init__(self, each: Gradient, size: int):
        self.each, self.size = each, size

    def __len__(self) -> int:
        return len(self.each) // self.size

    def rows(self, rows: slice | Tensor) -> "Mean":
        """See `Gradient`."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return Mean(self.each.rows(slice(start * self.size, stop * self.size)), self.size)
        members = rows[:, None] * self.size + torch.arange(self.size, device=rows.device)
        return Mean(self.each.rows(members.flatten()), self.size)

    def full(self) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.full())

    def some(self, kept: Tensor) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.some(kept))

    def inner(self, target: Tensor) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.inner(self._repeated(target)))

    def right(self, q: Tensor) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.right(self._repeated(q)))

    def left(self, p: Tensor) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.left(self._repeated(p)))

    def entries(self, indices: Tensor) -> Tensor:
        """See `Gradient`."""
        return self._mean(self.each.entries(self._repeated(indices)))

    def _mean(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, self.size)).mean(1)

    def _repeated(self, values: Tensor) -> Tensor:
        return values.repeat_interleave(self.size, 0)
