"""The K entries of largest magnitude, exactly.

A small sample tells roughly how large the K-th magnitude is. The K largest are chosen among the few entries that are
not clearly below that, as a full selection would move every entry. Y. Lin et al., "Deep gradient compression", ICLR
2018, section 3.1 and appendix D, sample in the same way, but then send all that reaches the threshold.
"""

from collections.abc import Mapping
from math import inf, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gradwire.schemes.layout import Layout
from gradwire.schemes.sparse import Sparse

Per = Literal["tensor", "model"]
"""Whether K entries are chosen of each parameter or of the whole model."""
SMALL = 1 << 16
PART = 1 << 15
"""Entries looked through at a time: few enough to stay in a core's cache."""
WORD = 64
"""Bits that are compared as one integer."""
STRIDE = 97
"""Every 97th entry is sampled: a prime, so that no channel or kernel position is sampled more than others."""


def choose(vector: Tensor, layout: Layout, counts: Mapping[str, int], per: Per) -> Sparse:
    """The largest entries of a flat update, shape (size,).

    Args:
        counts: how many of each parameter; with per="model" only their sum matters.
    """
    if per == "model":
        return Sparse.pick(vector, largest(vector, sum(counts.values())))
    parts = zip(vector.split(list(layout.sizes.values())), counts.items(), strict=True)
    return Sparse.pick(
        vector, torch.cat([largest(part, count) + layout.offsets[name] for part, (name, count) in parts])
    )


def largest(vector: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest magnitudes of a vector, int64, ascending; NaN counts as the largest."""
    candidates = _candidates(vector, count)
    if candidates is None:
        return _exact(vector.abs(), count)
    return candidates[_exact(vector[candidates].abs(), count)]


def _candidates(vector: Tensor, count: int) -> Tensor | None:
    """Ascending positions, the `count` largest among them; None where a full selection is as good.

    About count/97 ± √(count/97) of the sampled entries belong to the largest: the threshold is three deviations low.
    """
    size = vector.numel()
    if size < SMALL or not 0 < count <= size // 8:
        return None
    expected = count / STRIDE
    rank = int(expected + 3 * sqrt(expected) + 3)
    threshold = float(vector[::STRIDE].abs().topk(rank).values[-1])
    if threshold <= 0:
        return None
    found = _reaching(vector, threshold)
    return found if len(found) >= count else None


def _reaching(vector: Tensor, threshold: float) -> Tensor:
    """Positions of magnitudes that are not below `threshold`, ascending.

    On a CPU NumPy makes a bit of each entry and looks into words of 64 that hold any: ten times as fast as PyTorch.
    """
    if vector.is_cuda:
        return (~(vector.abs() < threshold)).nonzero()[:, 0]
    values = vector.numpy()
    magnitudes, below = np.empty(PART, values.dtype), np.empty(PART, dtype=bool)
    bits = np.zeros(-(-len(values) // WORD) * 8, dtype=np.uint8)
    for begin in range(0, len(values), PART):
        part = values[begin : begin + PART]
        size = len(part)
        np.abs(part, out=magnitudes[:size])
        below[size:] = True
        np.less(magnitudes[:size], threshold, out=below[:size])
        packed = np.packbits(below)[: -(-size // 8)]
        np.invert(packed, out=bits[begin // 8 : begin // 8 + len(packed)])
    word = np.flatnonzero(bits.view(np.uint64))
    held = bits.reshape(-1, 8)[word].reshape(-1)
    byte = np.flatnonzero(held)
    bit = np.flatnonzero(np.unpackbits(held[byte]).view(bool))
    begins = word[byte >> 3] * WORD + (byte & 7) * 8
    return torch.from_numpy(begins[bit >> 3] + (bit & 7))


def _exact(magnitude: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest, ascending; of equal ones at the border, the first."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=magnitude.device)
    magnitude = magnitude.nan_to_num_(nan=inf, posinf=inf)
    border = magnitude.topk(count, sorted=False).values.min()
    kept = magnitude > border
    ties = (magnitude == border).nonzero()[: count - int(kept.sum()), 0]
    kept[ties] = True
    return kept.nonzero()[:, 0]
