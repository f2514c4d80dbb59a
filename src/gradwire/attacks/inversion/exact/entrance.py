"""How an input's numbers reach a layer, where each number that the layer receives is a·x + c of one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from gradwire.attacks.inversion.first_layer import EXACT


@dataclass(frozen=True)
class Entrance:
    """The numbers u that reach a layer of one input: u = scale·x[place] + offset; float64 and int64 (N,).

    Attributes:
        place: in the flattened input; where `scale` is 0 (padding) it means nothing.
        shape: of an input.
    """

    place: Tensor
    scale: Tensor
    offset: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, reach: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> "Entrance | None":
        """Measure it with probes; None where inputs reach the layer in another way.

        Args:
            reach: inputs (1, *shape), float64 → the numbers (N,) that reach the layer.
        """
        random = torch.Generator().manual_seed(0)
        probes = 0.5 + torch.rand(3, *shape, generator=random, dtype=torch.float64)
        offset = reach(torch.zeros(1, *shape, dtype=torch.float64))
        first, second, third = (reach(probe[None]) - offset for probe in probes)
        # Which number of the input it is tells the ratio of what two probes gave.
        ratios, order = (probes[1] / probes[0]).flatten().sort()
        moved = first != 0
        asked = torch.where(moved, second / torch.where(moved, first, 1.0), ratios[0])
        behind = torch.searchsorted(ratios, asked).clamp(1, max(1, prod(shape) - 1))
        nearest = torch.stack([behind - 1, behind.clamp(max=prod(shape) - 1)])
        place = order[nearest.gather(0, (ratios[nearest] - asked).abs().argmin(0, keepdim=True))[0]]
        scale = torch.where(moved, first / probes[0].flatten()[place], 0.0)
        off = (scale * probes[2].flatten()[place] - third).abs().max()
        return cls(place, scale, offset, shape) if off <= EXACT * third.abs().max() else None

    @property
    def whole(self) -> bool:
        """Whether every number of an input arrives."""
        return len(self.place[self.scale != 0].unique()) == prod(self.shape)

    def undone(self, entered: Tensor, otherwise: Tensor) -> Tensor:
        """The input (*shape) that reaches the layer as `entered` (N,), by least squares where a number arrives twice.

        Args:
            otherwise: the input's numbers that do not reach the layer, (*shape).
        """
        above, below = (torch.zeros(prod(self.shape), dtype=torch.float64) for _ in range(2))
        above.index_add_(0, self.place, self.scale * (entered - self.offset))
        below.index_add_(0, self.place, self.scale.square())
        found = torch.where(below > 0, above / below.clamp_min(1e-300), otherwise.double().flatten())
        return found.view(self.shape)
