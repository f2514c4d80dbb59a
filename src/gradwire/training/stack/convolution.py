"""Convolutions of N networks at once, examples last: (N, C, H, W, B)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gradwire.training.stack.affine import Gradient, Unsupported
from gradwire.training.stack.frames import Frames


class Conv2d:
    """y = W ∗ a + b, for kernels of one group on zero padding.

    A convolution of stride s is one of stride 1 over s×s blocks of pixels. Inputs are unfolded along columns only: with
    R the inputs shifted by each column j of a kernel, and Wᵢ the i-th row of blocks of the kernels, the output is
    Σᵢ Wᵢ·(R shifted by i rows of blocks), so that a k×k kernel copies its input k times and not k². The slope at the
    inputs is made of slopes in the same way.
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
        frames = self._of(x, weight.shape[1])
        y = x.new_zeros(()) if bias is None else bias.to(x.dtype).unsqueeze(2)
        for i, (taps, seen) in enumerate(zip(self._rows(weight.to(x.dtype)), frames.shifted(x), strict=True)):
            y = y.baddbmm_(taps, seen) if i else torch.baddbmm(y, taps, seen)
        return y.view(*y.shape[:2], frames.rows.outputs, frames.columns.outputs, -1), frames

    def gradients(self, slope: Tensor, weight: Tensor, kept: Frames) -> tuple[Gradient, Tensor]:
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
        rows = weight.transpose(2, 3).split(self.stride, 2)
        return [each.flatten(2) for each in rows]

    def _blocks(self, weight: Tensor) -> Tensor:
        """The same on the way back, of kernels filled up to whole blocks: (rows of blocks, N, s·s·C, outputs·taps)."""
        s, (n, outputs, channels, high, wide) = self.stride, weight.shape
        whole = pad(weight, (0, -wide % s, 0, -high % s)).view(n, outputs, channels, -(-high // s), s, -1, s)
        return whole.permute(3, 0, 4, 6, 2, 1, 5).flatten(5).flatten(2, 4)

    def _of(self, x: Tensor, outputs: int) -> Frames:
        if self._frames is None or not self._frames.fits(x):
            self._frames = Frames(x, outputs, self.kernel, self.stride, self.padding)
        return self._frames
