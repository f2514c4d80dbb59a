"""A parameter's gradients for many victims, and the few products that measurements take of them."""

from abc import ABC, abstractmethod

from torch import Tensor


class Gradient(ABC):
    """One parameter's gradients for V victims, in whatever form an engine has them; never mind which."""

    @abstractmethod
    def __len__(self) -> int:
        """V."""

    @abstractmethod
    def rows(self, rows: slice | Tensor) -> "Gradient":
        """The gradients of some victims: a slice, or numbers as int64 (R,)."""

    @abstractmethod
    def full(self) -> Tensor:
        """G itself, shape (V, *parameter)."""

    @abstractmethod
    def square(self) -> Tensor:
        """‖G‖², shape (V,)."""

    @abstractmethod
    def inner(self, target: Tensor) -> Tensor:
        """⟨G, T⟩ with T of shape (V, *parameter); shape (V,)."""

    @abstractmethod
    def right(self, q: Tensor) -> Tensor:
        """G·Q for G as matrices (n, m) and Q of shape (V, m, r); shape (V, n, r)."""

    @abstractmethod
    def left(self, p: Tensor) -> Tensor:
        """Gᵀ·P for P of shape (V, n, r); shape (V, m, r)."""

    @abstractmethod
    def entries(self, indices: Tensor) -> Tensor:
        """G at flat positions, int64 (V, K); shape (V, K)."""


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

    def square(self) -> Tensor:
        """See `Gradient`."""
        return self.gradient.flatten(1).square().sum(1)

    def inner(self, target: Tensor) -> Tensor:
        """See `Gradient`."""
        return (self.gradient * target).flatten(1).sum(1)

    def right(self, q: Tensor) -> Tensor:
        """See `Gradient`."""
        return self.gradient.flatten(2) @ q

    def left(self, p: Tensor) -> Tensor:
        """See `Gradient`."""
        return self.gradient.flatten(2).mT @ p

    def entries(self, indices: Tensor) -> Tensor:
        """See `Gradient`."""
        return self.gradient.flatten(1).gather(1, indices)
