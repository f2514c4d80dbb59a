"""Layers of N networks at once with examples as rows, (N, B, features) and (N, B, C, H, W), as PyTorch has them.

Linear layers are one batched product; of a few examples it is four times as fast as with examples last, where so few
columns leave a CPU's registers empty. Convolutions run network by network, channels last, each by the kernels of its
own that large ones have. Inputs decide the type in which products are taken; gradients are of the parameters' own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradwire.training.stack import affine
from gradwire.training.stack.affine import Gradient, Outer, Unsupported


class Linear(affine.Linear):
    """y = a·Wᵀ + b."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs, (N, B, outputs)."""
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Gradient, Tensor]:
        """Of weight and bias."""
        slope = slope.to(weight.dtype)
        return Outer(slope.mT, kept[0].to(weight.dtype).mT), slope.sum(1)

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs."""
        return torch.bmm(slope, kept[1])


class Conv2d:
    """y = W ∗ a + b, on zero padding."""

    def __init__(self, layer: nn.Conv2d):
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise Unsupported("Conv2d has a padding of another kind")
        self.biased = layer.bias is not None
        self._stride, self._padding, self._dilation = map(list, (layer.stride, layer.padding, layer.dilation))
        self._groups = layer.groups

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs (N, B, outputs, h, w), and what `gradients` and `back` need."""
        seen = [each.contiguous(memory_format=torch.channels_last) for each in x]
        how = self._stride, self._padding, self._dilation, self._groups
        biases = [None] * len(seen) if bias is None else list(bias.to(x.dtype))
        weight = weight.to(x.dtype)
        y = [torch.conv2d(a, w, b, *how) for a, w, b in zip(seen, weight, biases, strict=True)]
        return _joined(y), (seen, weight)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Gradient, Tensor]:
        """Of weight and bias."""
        found = self._backward(slope, kept, [False, True, True])
        of_weight, of_bias = (torch.stack([each[i] for each in found]).to(weight.dtype) for i in (1, 2))
        return of_weight, of_bias

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs."""
        return _joined([below for below, _, _ in self._backward(slope, kept, [True, False, False])])

    def _backward(self, slope: Tensor, kept: Any, wanted: list[bool]) -> list[Any]:
        """Slopes at inputs, weights and biases of each network, those that are wanted."""
        seen, weight = kept
        run: Callable[..., Any] = torch.ops.aten.convolution_backward
        how = [weight.shape[1]], self._stride, self._padding, self._dilation, False, [0, 0], self._groups, wanted
        return [run(g, a, w, *how) for g, a, w in zip(slope, seen, weight, strict=True)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Networks' images (B, …) as (N, B, …), in the memory format that they have."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.cat(list(parts)).unflatten(0, (len(parts), -1))
