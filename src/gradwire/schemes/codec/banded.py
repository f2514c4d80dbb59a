"""Convolutions of one long vector, with a kernel of 3 and a padding of 1, as banded matrix products.

Rows are positions and columns are channels: x is (L, C), `taps` (3, C, F) and `bias` (F,). A layer, and its derivative,
is a few matrix products of views, in which a row meets itself and its neighbours. On a CPU that is faster than
convolution kernels, which are made for many short inputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

ALL = slice(None)


class Band(NamedTuple):
    """A part of a product: rows take from the input's row of the same number (0), the next (1) or the last (-1).

    Attributes:
        inputs, outputs: the columns that it takes, and to which it adds.
    """

    neighbour: int
    inputs: slice = ALL
    outputs: slice = ALL

    @property
    def source(self) -> tuple[slice, slice]:
        """The part of the input that it takes."""
        return (ALL, slice(1, None), slice(None, -1))[self.neighbour], self.inputs

    @property
    def target(self) -> tuple[slice, slice]:
        """The part of the product to which it adds."""
        return (ALL, slice(None, -1), slice(1, None))[self.neighbour], self.outputs


def halved(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """A convolution of stride 2: y[j] = x[2j - 1]·T0 + x[2j]·T1 + x[2j + 1]·T2 + b, shape (L / 2, F)."""
    length, channels = x.shape
    before = Band(-1, inputs=slice(channels, None))
    return _Banded.apply(x.reshape(length // 2, 2 * channels), bias, (Band(0), before), taps[1:].flatten(0, 1), taps[0])


def doubled(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution of stride 2: y[2j] = x[j]·T1 + b, y[2j + 1] = x[j]·T2 + x[j + 1]·T0 + b; (2·L, F)."""
    after = Band(1, outputs=slice(len(bias), None))
    pairs = _Banded.apply(x, bias.repeat(2), (Band(0), after), torch.cat([taps[1], taps[2]], 1), taps[0])
    return pairs.view(2 * len(x), len(bias))


def spread(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution of stride 1: y[j] = x[j + 1]·T0 + x[j]·T1 + x[j - 1]·T2 + b, shape (L, F)."""
    return _Banded.apply(x, bias, (Band(0), Band(1), Band(-1)), taps[1], taps[0], taps[2])


class _Banded(torch.autograd.Function):
    """The sum of bands: y[target] += x[source]·T for each band and its T; the first covers all rows and columns."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bias: Tensor, bands: Sequence[Band], *taps: Tensor) -> Tensor:
        """The product, shape (rows of x, F)."""
        y = torch.addmm(bias, x, taps[0])
        for band, tap in zip(bands[1:], taps[1:], strict=True):
            y[band.target] += x[band.source] @ tap
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the derivative needs."""
        x, _, ctx.bands, *taps = inputs
        ctx.save_for_backward(x, *taps)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """The slopes at x, bias and taps."""
        x, *taps = ctx.saved_tensors
        below, of_bias = None, slope.sum(0) if ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[0]:
            below = slope @ taps[0].mT
            for band, tap in zip(ctx.bands[1:], taps[1:], strict=True):
                below[band.source] += slope[band.target] @ tap.mT
        of_taps = [
            x[band.source].mT @ slope[band.target] if needed else None
            for band, needed in zip(ctx.bands, ctx.needs_input_grad[3:], strict=True)
        ]
        return below, of_bias, None, *of_taps
