"""Unfolding the input of a convolution, and back, by strided copies.

PyTorch's own `unfold` takes one example after another, and on a CPU a sixth of an iteration on ResNet-18
(`gradwire bench inversion --model resnet18`); one copy of a strided view, and k·k slices added, take less. Each is the
other's slope, to any order.
"""

from typing import Any

import torch
from torch import Tensor

Pair = tuple[int, int]


def unfold(x: Tensor, kernel: Pair, dilation: Pair, stride: Pair) -> Tensor:
    """Patches of an input that is padded already: (N, C, H, W) → (N, C·k·k, positions)."""
    return _Unfold.apply(x, kernel, dilation, stride)


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Pair, dilation: Pair, stride: Pair) -> Tensor:
        ctx.shape, ctx.how = x.shape, (kernel, dilation, stride)
        x = x.contiguous()
        rows, columns = _positions(x.shape, kernel, dilation, stride)
        n, c, h, w = x.stride()
        steps = (n, c, dilation[0] * h, dilation[1] * w, stride[0] * h, stride[1] * w)
        patches = x.as_strided((*x.shape[:2], *kernel, rows, columns), steps)
        return patches.reshape(len(x), -1, rows * columns)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        return _Fold.apply(slope, ctx.shape, *ctx.how), None, None, None


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, shape: torch.Size, kernel: Pair, dilation: Pair, stride: Pair) -> Tensor:
        ctx.how = (kernel, dilation, stride)
        rows, across = _positions(shape, kernel, dilation, stride)
        patches = columns.view(*shape[:2], *kernel, rows, across)
        x = columns.new_zeros(shape)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                top, left = i * dilation[0], j * dilation[1]
                bottom, right = top + stride[0] * (rows - 1) + 1, left + stride[1] * (across - 1) + 1
                x[:, :, top : bottom : stride[0], left : right : stride[1]] += patches[:, :, i, j]
        return x

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Unfold.apply(slope, *ctx.how), None, None, None, None


def _positions(shape: torch.Size, kernel: Pair, dilation: Pair, stride: Pair) -> Pair:
    """Rows and columns of a convolution's output."""
    rows, columns = (
        (size - d * (k - 1) - 1) // s + 1 for size, k, d, s in zip(shape[2:], kernel, dilation, stride, strict=True)
    )
    return rows, columns
