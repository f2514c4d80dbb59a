"""Convolutions of N networks at once, examples last: (N, C, H, W, B)."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from gradwire.training.stack.affine import Gradient, Scratch, Unsupported


class Conv2d:
    """y = W ∗ a + b, for kernels of one group on zero padding.

    Pixels are sorted by their place in s×s blocks, s the stride, so that copies run over whole rows of blocks. Inputs
    are unfolded along columns only: with R[c, j] the input shifted by j columns and Wᵢ the i-th row of the kernels, the
    output is Σᵢ Wᵢ·(R shifted by i rows), so that a k×k kernel copies its input k times and not k².
    """

    def __init__(self, layer: nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise Unsupported("Conv2d has groups or a padding of another kind")
        if layer.dilation != (1, 1) or layer.stride[0] != layer.stride[1]:
            raise Unsupported("Conv2d is dilated or has a stride for each axis")
        self.biased = layer.bias is not None
        self.stride, self.padding, self.kernel = layer.stride[0], layer.padding, layer.kernel_size
        self._scratch = Scratch()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs (N, outputs, h, w, B), and what `gradients` and `back` need."""
        h, s, shifted = self._grid(x.shape).h, self.stride, self._shifted(x)
        # What each row of the kernels meets, (N, C·k, h·w·B): views.
        seen = [shifted[:, i % s, :, i // s : i // s + h].flatten(2) for i in range(self.kernel[0])]
        y = x.new_zeros(()) if bias is None else bias.to(x.dtype).unsqueeze(2)
        for i, taps in enumerate(self._taps(weight.to(x.dtype))):
            y = y.baddbmm_(taps, seen[i]) if i else torch.baddbmm(y, taps, seen[i])
        return y.view(*y.shape[:2], h, -1, x.shape[-1]), (seen, x.shape)

    def gradients(self, slope: Tensor, weight: Tensor, kept: Any) -> tuple[Gradient, Tensor]:
        """Of weight and bias."""
        (seen, shape), flat, (high, wide) = kept, slope.flatten(2), self.kernel
        taps = torch.stack([torch.bmm(flat, each.mT) for each in seen], 2)
        of_weight = taps.view(*flat.shape[:2], high, shape[1], wide).transpose(2, 3)
        return of_weight.to(weight.dtype), flat.sum(2, dtype=weight.dtype)

    def back(self, slope: Tensor, weight: Tensor, kept: Any) -> Tensor:
        """The slope at the inputs: to all rows of blocks that a tap met, on to columns, on to pixels."""
        (_, shape), s, (high, wide) = kept, self.stride, self.kernel
        (n, channels, *_, b), grid, taps = shape, self._grid(shape), self._taps(weight.to(slope.dtype))
        folded = self._scratch("folded", (n, channels, s, s, grid.rows, grid.columns, b), slope).zero_()
        for a in range(min(s, high)):
            # Rows of the kernel that meet the same rows of pixels, a modulo s: their slopes, one below the other.
            own = range(a, high, s)
            raised = self._scratch(f"raised {a}", (n, len(own), slope.shape[1], grid.rows, grid.w, b), slope)
            for place, i in enumerate(own):
                raised[:, place, :, i // s : i // s + grid.h] = slope
            spread = self._scratch("spread", (n, channels * wide, grid.rows * grid.w * b), slope)
            torch.bmm(taps[a::s].transpose(0, 1).flatten(1, 2).mT, raised.flatten(3).flatten(1, 2), out=spread)
            for j, column in enumerate(spread.view(n, channels, wide, grid.rows, grid.w, b).unbind(2)):
                folded[:, :, a, j % s, :, j // s : j // s + grid.w] += column
        below = slope.new_zeros(shape)
        for a, c, inside, outside in grid.phases:
            below[inside] = folded[:, :, a, c][outside]
        return below

    def _shifted(self, x: Tensor) -> Tensor:
        """R, apart for each place of a row in its block: (N, s, C·k, rows, w·B)."""
        (n, channels, *_, b), s, wide, grid = x.shape, self.stride, self.kernel[1], self._grid(x.shape)
        blocks = self._scratch("blocks", (n, channels, s, s, grid.rows, grid.columns, b), x)
        for a, c, inside, outside in grid.phases:
            blocks[:, :, a, c][outside] = x[inside]
        shifted = self._scratch("shifted", (n, s, channels, wide, grid.rows, grid.w, b), x)
        for j in range(wide):
            shifted[:, :, :, j] = blocks[:, :, :, j % s, :, j // s : j // s + grid.w].transpose(1, 2)
        return shifted.view(n, s, channels * wide, grid.rows, grid.w * b)

    def _taps(self, weight: Tensor) -> Tensor:
        """Wᵢ for each row of the kernel: (k, N, outputs, C·k)."""
        return weight.permute(3, 0, 1, 2, 4).flatten(3)

    def _grid(self, shape: torch.Size) -> "Grid":
        return grid_of(shape[2:4], self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class Grid:
    """How a convolution's input lies in s×s blocks.

    Attributes:
        h, w: rows and columns of the output.
        rows, columns: of the blocks that it takes to make them.
        phases: for each place in a block (row, column), the pixels that are there and the blocks that they are in, as
            indices of (N, C, H, W, B) and (N, C, rows, columns, B).
    """

    h: int
    w: int
    rows: int
    columns: int
    phases: tuple[tuple[int, int, Any, Any], ...]


@cache
def grid_of(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: tuple[int, int]) -> Grid:
    """The grid of an input of this height and width."""
    h, w = ((n + 2 * p - k) // stride + 1 for n, p, k in zip(size, padding, kernel, strict=True))
    rows, columns = h + (kernel[0] - 1) // stride, w + (kernel[1] - 1) // stride
    phases = []
    for a, c in product(range(stride), repeat=2):
        pixels, blocks = [slice(None)] * 2, [slice(None)] * 2
        for place, n, margin, room in zip((a, c), size, padding, (rows, columns), strict=True):
            first = (place - margin) % stride
            start = (first + margin) // stride
            count = max(0, min(room - start, -(-(n - first) // stride)))
            pixels.append(slice(first, first + count * stride, stride))
            blocks.append(slice(start, start + count))
        phases.append((a, c, tuple(pixels), tuple(blocks)))
    return Grid(h, w, rows, columns, tuple(phases))
