"""Inputs of any shape, of which nothing is known but their numbers' range."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.tasks.domain import Domain


@dataclass(frozen=True)
class Numbers(Domain):
    """Tensors of finite numbers between two bounds.

    Attributes:
        shape: of one input.
        low: the least number, and `high`, the greatest; a search stays between them.
    """

    name: ClassVar[str] = "numbers"
    what: ClassVar[str] = "inputs"
    scores: ClassVar[tuple[str, ...]] = ("relative_error", "mse")
    enough: ClassVar[float | str] = 0.1
    higher: ClassVar[bool] = False

    shape: tuple[int, ...]
    low: float = -torch.inf
    high: float = torch.inf

    def check(self, inputs: Tensor) -> None:
        """Refuse another shape, and numbers that are not finite or out of bounds."""
        if inputs.ndim < 1 or not len(inputs) or inputs.shape[1:] != self.shape:
            wanted = ", ".join(map(str, ("B", *self.shape)))
            raise GradwireError(f"inputs have shape {tuple(inputs.shape)}; they must be ({wanted}), B ≥ 1")
        if not bool(torch.isfinite(inputs).all()):
            raise GradwireError("inputs hold a value that is not finite")
        low, high = float(inputs.min()), float(inputs.max())
        if low < self.low or high > self.high:
            raise GradwireError(f"inputs lie in [{low:g}, {high:g}]; they must lie in [{self.low:g}, {self.high:g}]")

    def bounds(self) -> tuple[float, float]:
        """The numbers' own."""
        return self.low, self.high

    def score(self, guess: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        """‖guess − truth‖ / ‖truth‖, and the mean squared error."""
        off, size = ((t.double().flatten(1)) for t in (guess - truth, truth))
        return {"relative_error": off.norm(dim=1) / size.norm(dim=1).clamp_min(1e-12), "mse": off.square().mean(1)}
