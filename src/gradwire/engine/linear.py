"""Linear layers: the rule for victims who share a network, and the products of N networks at once.

Networks have two orders of memory. With examples last, (N, features, B), inner loops run over all examples. With
examples as rows, (N, B, features), products of a few examples are four times as fast. Products have the type of the
inputs, gradients that of the parameters.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gradwire.engine.choice import Unsupported
from gradwire.engine.factored import Factored
from gradwire.schemes.gradients import Full, Gradient


def linear(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """y = W·a + b at every position: G = Σ δ·aᵀ."""
    a, delta = (t.reshape(victims, -1, t.shape[-1]).mT for t in (inputs, slope))
    return weighted(layer, delta, a)


def transposed(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """y = Wᵀ·a + b at every position, as GPT-2's `Conv1D` of `transformers` has it: G = Σ a·δᵀ."""
    a, delta = (t.reshape(victims, -1, t.shape[-1]).mT for t in (inputs, slope))
    weight = layer.get_parameter("weight")
    return {"weight": Factored(a, delta, tuple(weight.shape)), "bias": Full(delta.sum(2))}


def weighted(layer: nn.Module, delta: Tensor, a: Tensor) -> dict[str, Gradient]:
    """Gradients of a weight and a bias from δ (V, n, positions) and a (V, m, positions)."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    gradients: dict[str, Gradient] = {"weight": Factored(delta, a, tuple(layer.weight.shape))}
    if layer.bias is not None:
        gradients["bias"] = Full(delta.sum(2))
    return gradients


class ColumnLinear:
    """y = W·a + b of N networks, examples last."""

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

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Factored, Tensor]:
        """Of weight and bias."""
        slope, x = slope.to(weight.dtype), kept[0].to(weight.dtype)
        # The sum over a few contiguous examples is slow as a reduction and fast as a product.
        ones = slope.new_ones(slope.shape[2], 1).expand(len(slope), -1, -1)
        return Factored(slope, x, weight.shape[1:]), torch.bmm(slope, ones).squeeze(2)

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs."""
        return torch.bmm(slope.mT, kept[1]).mT


class RowLinear(ColumnLinear):
    """y = a·Wᵀ + b of N networks, examples as rows."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs, (N, B, outputs)."""
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Factored, Tensor]:
        """Of weight and bias."""
        slope = slope.to(weight.dtype)
        return Factored(slope.mT, kept[0].to(weight.dtype).mT, weight.shape[1:]), slope.sum(1)

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs."""
        return torch.bmm(slope, kept[1])
