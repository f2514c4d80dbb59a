"""Convolutions: the rule for victims who share a network, and N networks at once in two orders of memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gradwire.engine.choice import Unsupported
from gradwire.engine.frames import Frames
from gradwire.engine.linear import weighted
from gradwire.engine.unfolding import unfold
from gradwire.schemes.gradients import Full, Gradient


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
