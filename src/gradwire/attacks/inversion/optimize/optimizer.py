"""What optimisers have in common: the box that they stay in, and a state that can be stored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (R, N) → values (R,) and slopes (R, N). Rows do not mix."""


@dataclass(frozen=True)
class Box:
    """Bounds of every coordinate, shape (N,); infinite where there is none."""

    low: Tensor
    high: Tensor

    @classmethod
    def everywhere(cls, start: Tensor) -> "Box":
        """No bounds at all, for points like `start`."""
        return cls(torch.full_like(start[0], -torch.inf), torch.full_like(start[0], torch.inf))

    def clamp(self, points: Tensor) -> Tensor:
        """The nearest points within the bounds."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def leaving(self, points: Tensor, slopes: Tensor) -> Tensor:
        """Whether a coordinate is within a hundredth of the box from a bound and its slope pushes it outwards."""
        margin = (self.high - self.low) / 100
        return ((points <= self.low + margin) & (slopes > 0)) | ((points >= self.high - margin) & (slopes < 0))


class Optimizer(ABC):
    """Minimises R functions side by side, one evaluation of all of them an iteration.

    Attributes:
        state: everything that the next iteration depends on, by name, with `points` (R, N). Iterations after it has
            been stored and restored are the same to the last bit.
    """

    state: dict[str, Tensor]

    @property
    def points(self) -> Tensor:
        """The rows' present points, shape (R, N)."""
        return self.state["points"]

    @abstractmethod
    def step(self, evaluate: Evaluate) -> None:
        """Do one iteration."""

    @abstractmethod
    def renew(self) -> None:
        """Forget the function: from here on another one is minimised, from the present points."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that was stored.

        Raises:
            GradwireError: a state of another optimiser, or of another version's.
        """
        if state.keys() != self.state.keys():
            held, due = (", ".join(sorted(names)) for names in (state, self.state))
            raise GradwireError(f"the stored state of {type(self).__name__} holds {held}; it must hold {due}")
        self.state = {name: state[name].to(kept.device) for name, kept in self.state.items()}
