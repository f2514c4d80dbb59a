"""Convolutions: the rule for victims who share a network, and N networks at once in two orders of memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, pad

from gradwire.engine.choice import Unsupported
from gradwire.engine.frames import Frames
from gradwire.engine.linear import weighted
from gradwire.schemes.gradients import Full, Gradient

Pair = tuple[int, int]
WIDE = 16
"""Positions in a row from which, on a CPU and at stride 1, k·k slices take half the time of PyTorch's `fold`."""


def conv2d(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """y = W·U with U the unfolded input: a linear layer at every position, group by group."""
    assert isinstance(layer, nn.Conv2d)
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "same", "valid"):
        unfolded = inputs.flatten(2)
    else:
        # PyTorch's own list of margins: left, right, top, bottom.
        padded = pad(inputs, layer._reversed_padding_repeated_twice)
        unfolded = unfold(padded, layer.kernel_size, layer.dilation, layer.stride)  # type: ignore[arg-type]
    if layer.groups == 1:
        a, delta = (_by_victim(t, victims) for t in (unfolded, slope.flatten(2)))
        return weighted(layer, delta, a)
    # Each group is a layer; their weights are small, so that the gradient is formed.
    shape = (victims, len(inputs) // victims, layer.groups, -1, unfolded.shape[-1])
    weight = torch.einsum("vbgol,vbgkl->vgok", slope.reshape(shape), unfolded.reshape(shape))
    gradients: dict[str, Gradient] = {"weight": Full(weight.reshape(victims, *layer.weight.shape))}
    if layer.bias is not None:
        gradients["bias"] = Full(_by_victim(slope.flatten(2), victims).sum(2))
    return gradients


def _by_victim(x: Tensor, victims: int) -> Tensor:
    """(V·B, C, L) → (V, C, B·L)."""
    if len(x) == victims:
        return x
    return x.unflatten(0, (victims, -1)).transpose(1, 2).flatten(2)


def unfold(x: Tensor, kernel: Pair, dilation: Pair, stride: Pair) -> Tensor:
    """Patches of an input that is padded already, by strided copies: (N, C, H, W) → (N, C·k·k, positions).

    PyTorch's own `unfold` takes one example after another, and on a CPU a sixth of an iteration on ResNet-18
    (`gradwire bench inversion --model resnet18`); one copy of a strided view takes less. `_Unfold` and `_Fold` are each
    other's slopes, to any order. A card is asked for one `fold` in place of k·k slices.
    """
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
        if columns.device.type != "cpu" or across < WIDE or stride != (1, 1):
            return fold(columns, shape[2:], kernel, dilation, 0, stride)
        patches = columns.view(*shape[:2], *kernel, rows, across)
        x = columns.new_zeros(shape)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                top, left = i * dilation[0], j * dilation[1]
                x[:, :, top : top + rows, left : left + across] += patches[:, :, i, j]
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


class ColumnConv2d:
    """y = W ∗ a + b of N networks, examples last (N, C, H, W, B), for kernels of one group on zero padding.

    A convolution of stride s is one of stride 1 over s×s blocks of pixels. Inputs are unfolded along columns only: with
    R the inputs shifted by each column j of a kernel, and Wᵢ the i-th row of blocks of the kernels, the output is
    Σᵢ Wᵢ·(R shifted by i rows of blocks), so that a k×k kernel copies its input k times and not k². The slope at the
    inputs is computed likewise from the slope at the outputs.
    """

    def __init__(self, layer: nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise Unsupported("Conv2d has groups or a padding of another kind")
        if layer.dilation != (1, 1) or layer.stride[0] != layer.stride[1]:
            raise Unsupported("Conv2d is dilated or has a stride for each axis")
        self.biased = layer.bias is not None
        self.stride, self.padding, self.kernel = layer.stride[0], layer.padding, layer.kernel_size
        self._frames: Frames | None = None

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs (N, outputs, h, w, B), and what `gradients` and `back` need."""
        if self._frames is None or not self._frames.fits(x):
            self._frames = Frames(x, weight.shape[1], self.kernel, self.stride, self.padding)
        frames = self._frames
        y = x.new_zeros(()) if bias is None else bias.to(x.dtype).unsqueeze(2)
        for i, (taps, seen) in enumerate(zip(self._rows(weight.to(x.dtype)), frames.shifted(x), strict=True)):
            y = y.baddbmm_(taps, seen) if i else torch.baddbmm(y, taps, seen)
        return y.view(*y.shape[:2], frames.rows.outputs, frames.columns.outputs, -1), frames

    def gradients(self, slope: Tensor, weight: Tensor, kept: Frames) -> tuple[Tensor, Tensor]:
        """Of weight and bias."""
        flat, (n, outputs, channels, _, wide) = slope.flatten(2), weight.shape
        rows = [torch.bmm(flat, seen.mT).view(n, outputs, -1, channels, wide) for seen in kept.seen]
        of_weight = torch.cat(rows, 2).transpose(2, 3)
        return of_weight.to(weight.dtype), flat.sum(2, dtype=weight.dtype)

    def back(self, slope: Tensor, weight: Tensor, kept: Frames) -> Tensor:
        """The slope at the inputs."""
        taps, met = self._blocks(weight.to(slope.dtype)), kept.spread(slope)
        below = torch.bmm(taps[0], met[0])
        for own, slopes in zip(taps[1:], met[1:], strict=True):
            below.baddbmm_(own, slopes)
        return kept.pixels(below)

    def _rows(self, weight: Tensor) -> Sequence[Tensor]:
        """Wᵢ for each row of blocks: (N, outputs, a·C·k), a ≤ s the rows of the kernel that are in it."""
        return [each.flatten(2) for each in weight.transpose(2, 3).split(self.stride, 2)]

    def _blocks(self, weight: Tensor) -> Tensor:
        """Wᵢ for `back`, of kernels padded to whole blocks: (rows of blocks, N, s·s·C, outputs·taps)."""
        s, (n, outputs, channels, high, wide) = self.stride, weight.shape
        whole = pad(weight, (0, -wide % s, 0, -high % s)).view(n, outputs, channels, -(-high // s), s, -1, s)
        return whole.permute(3, 0, 4, 6, 2, 1, 5).flatten(5).flatten(2, 4)


class RowConv2d:
    """y = W ∗ a + b on zero padding, by PyTorch's kernels, of one network after another.

    Examples come first and channels last in memory.
    """

    def __init__(self, layer: nn.Conv2d):
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise Unsupported("Conv2d has a padding of another kind")
        self.biased = layer.bias is not None
        self._geometry: list[Any] = [list(each) for each in (layer.stride, layer.padding, layer.dilation)]
        self._groups = layer.groups

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs (N, B, outputs, h, w), and what `gradients` and `back` need."""
        seen = [each.contiguous(memory_format=torch.channels_last) for each in x]
        how = *self._geometry, self._groups
        biases = [None] * len(seen) if bias is None else list(bias.to(x.dtype))
        weight = weight.to(x.dtype)
        y = [torch.conv2d(a, w, b, *how) for a, w, b in zip(seen, weight, biases, strict=True)]
        return _joined(y), (seen, weight)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Tensor, Tensor]:
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
        how = [weight.shape[1]], *self._geometry, False, [0, 0], self._groups, wanted
        return [run(g, a, w, *how) for g, a, w in zip(slope, seen, weight, strict=True)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Networks' images (B, …) as (N, B, …), in the memory format that they have."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.cat(list(parts)).unflatten(0, (len(parts), -1))
