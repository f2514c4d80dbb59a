"""Linear layers of N networks at once: what they compute, and what their gradients are made of.

Examples come last, (N, features, B), so that inner loops run over all examples, and every product is one batched matrix
product over networks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Unsupported(Exception):
    """Why a path cannot run a model."""


@dataclass(frozen=True)
class Outer:
    """The gradient δ·aᵀ of a weight, (N, outputs, inputs), not formed: one in-place product can add it to the weight.

    Attributes:
        delta: the slope at the layer's outputs, (N, outputs, B), and `inputs`, (N, inputs, B).
    """

    delta: Tensor
    inputs: Tensor

    def full(self) -> Tensor:
        """The gradient."""
        return torch.bmm(self.delta, self.inputs.mT)


Gradient = Tensor | Outer


class Linear:
    """y = W·a + b."""

    def __init__(self, layer: nn.Linear):
        self.biased = layer.bias is not None

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs, and what `gradients` and `back` need."""
        if x.ndim != 3:
            raise Unsupported("a linear layer is applied to more than one vector an example")
        weight = weight.to(x.dtype)
        return self.product(x, weight, None if bias is None else bias.to(x.dtype)), (x, weight)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs."""
        return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Gradient, Tensor]:
        """Of weight and bias."""
        slope, x = slope.to(weight.dtype), kept[0].to(weight.dtype)
        # The sum over examples: of a few that lie side by side it is a slow reduction, and a quick product.
        ones = slope.new_ones(slope.shape[2], 1).expand(len(slope), -1, -1)
        return Outer(slope, x), torch.bmm(slope, ones).squeeze(2)

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs."""
        return torch.bmm(slope.mT, kept[1]).mT
