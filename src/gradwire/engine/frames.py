"""The memory in which a convolution of N networks lays out its factors, used again at every step.

New pages would cost more than the products, and views that are made once cost nothing later. What lies outside an image
is zero from the beginning and is never written.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

from torch import Tensor

Moves = Sequence[tuple[Tensor, Any]]
"""Views to write to, and the part of a tensor that is written."""


class Axis:
    """One axis of an input of `size` pixels, with `padding` on either side, in blocks of `stride` pixels.

    Attributes:
        outputs: their number, one for each block in which a kernel begins.
        taps: the number of blocks in a kernel; `blocks`: in all kernels together.
        first: the first block that has a pixel of the input; `held`: the number of blocks that have any.
    """

    def __init__(self, size: int, kernel: int, stride: int, padding: int):
        self.size, self.stride, self.padding = size, stride, padding
        self.outputs = (size + 2 * padding - kernel) // stride + 1
        self.taps = -(-kernel // stride)
        self.blocks = self.outputs + self.taps - 1
        self.first = padding // stride
        self.held = -(-(padding + size) // stride) - self.first

    def phase(self, place: int, first: int, blocks: int) -> tuple[slice, slice]:
        """Pixels at this place of their block, in `blocks` blocks from the first, and which blocks those are."""
        pixel = (place - self.padding) % self.stride
        start = (pixel + self.padding) // self.stride - first
        count = max(0, min(blocks - start, -(-(self.size - pixel) // self.stride)))
        return slice(pixel, pixel + count * self.stride, self.stride), slice(start, start + count)

    def met(self, tap: int, blocks: int) -> tuple[slice, slice]:
        """Outputs whose kernels have this tap in one of `blocks` blocks from `first`, and which blocks those are."""
        start = max(0, self.first - tap)
        stop = max(start, min(self.outputs, self.first + blocks - tap))
        return slice(start, stop), slice(start + tap - self.first, stop + tap - self.first)


class Frames:
    """Inputs and slopes of one convolution, shifted by the columns of its kernels.

    Attributes:
        rows, columns: the two axes.
        seen: the factor of each row of blocks of the kernels, (N, a·C·k, h·w·B), a ≤ s the rows of the kernel in it.
    """

    def __init__(self, x: Tensor, outputs: int, kernel: Sequence[int], stride: int, padding: Sequence[int]):
        """For inputs like x (N, C, H, W, B), in shape, type and device, and a number of output channels."""
        rows, columns = self.rows, self.columns = tuple(
            Axis(x.shape[2 + i], kernel[i], stride, padding[i]) for i in range(2)
        )
        self._like, self._outputs, self._stride = x.new_empty(()).expand(x.shape), outputs, stride
        (n, channels), b, (high, wide) = x.shape[:2], x.shape[-1], (min(stride, each) for each in kernel)
        blocks = x.new_zeros(n, high, channels, wide, rows.blocks, columns.blocks, b)
        self._into_blocks = [
            (blocks[:, a, :, c, into, along], _at(down, across))
            for a, c in product(range(high), range(wide))
            for down, into in [rows.phase(a, 0, rows.blocks)]
            for across, along in [columns.phase(c, 0, columns.blocks)]
        ]
        shifted = x.new_empty(n, high, channels, kernel[1], rows.blocks, columns.outputs, b)
        self._into_shifted = [
            (column, blocks[:, :, :, j % stride, :, j // stride : j // stride + columns.outputs])
            for j, column in enumerate(shifted.unbind(3))
        ]
        self.seen: Sequence[Tensor] = [
            shifted[:, : kernel[0] - i * stride].flatten(1, 3)[:, :, i : i + rows.outputs].flatten(2)
            for i in range(rows.taps)
        ]

    def fits(self, x: Tensor) -> bool:
        """Whether it is for inputs like x."""
        like = self._like
        return (like.shape, like.dtype, like.device) == (x.shape, x.dtype, x.device)

    def shifted(self, x: Tensor) -> Sequence[Tensor]:
        """`seen` of these inputs; the next call overwrites it."""
        for where, pixels in self._into_blocks:
            where.copy_(x[pixels])
        for where, block in self._into_shifted:
            where.copy_(block)
        return self.seen

    def spread(self, slope: Tensor) -> Sequence[Tensor]:
        """The factor of each row of blocks in the backward pass: (N, outputs·taps, blocks with pixels·B)."""
        met, moves = self._back
        for where, outputs in moves:
            where.copy_(slope[outputs])
        return met

    def pixels(self, below: Tensor) -> Tensor:
        """The slope at the inputs from that at blocks of pixels (N, s·s·C, blocks with pixels·B)."""
        rows, columns, s, shape = self.rows, self.columns, self._stride, self._like.shape
        if s == 1:
            return below.view(shape)
        blocks = below.view(len(below), s, s, shape[1], rows.held, columns.held, -1)
        x = below.new_empty(shape)
        for a, c in product(range(s), repeat=2):
            down, into = rows.phase(a, rows.first, rows.held)
            across, along = columns.phase(c, columns.first, columns.held)
            x[_at(down, across)] = blocks[:, a, c, :, into, along]
        return x

    @cached_property
    def _back(self) -> tuple[Sequence[Tensor], Moves]:
        """The result of `spread`, and which outputs' slopes go where in it; the first layer does not need it."""
        rows, columns, like = self.rows, self.columns, self._like
        high = rows.held + rows.taps - 1
        spread = like.new_zeros(len(like), self._outputs, columns.taps, high, columns.held, like.shape[-1])
        # Slopes lie where the last tap meets them; each tap before it begins one row further down.
        down, into = rows.met(rows.taps - 1, high)
        moves = [
            (spread[:, :, j, into, along], _at(down, across))
            for j in range(columns.taps)
            for across, along in [columns.met(j, columns.held)]
        ]
        return [spread.flatten(1, 2)[:, :, i : i + rows.held].flatten(2) for i in reversed(range(rows.taps))], moves


def _at(rows: slice, columns: slice) -> tuple[slice, ...]:
    """An index of (N, C, H, W, B)."""
    return slice(None), slice(None), rows, columns
