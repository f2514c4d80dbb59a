"""The anonymous union: which entries were chosen, not by whom and not by how many.

Each client adds a vector over all entries of Z_256, with an element drawn at random from 1 … 255 wherever it chooses
and 0 elsewhere. The sum is not zero where one client chose; where several did, it is uniform, and given that it is not
zero it is distributed as if one had chosen, so that not even counts can be read from it. Where the elements of several
cancel (one time in 255 or less) an entry is passed over; the residual keeps it for the next round.
"""

import numpy as np
import torch
from torch import Tensor

from gradwire.secure.entropy import random_bytes
from gradwire.secure.masks import Codes
from gradwire.secure.ring import Ring

MARKS = Ring(8, 1)
"""Sums of marks may wrap as they like: only zero and not zero are told apart."""


def mark(indices: Tensor, size: int) -> Codes:
    """A client's marks at the entries that it chooses, shape (size,)."""
    drawn = np.frombuffer(random_bytes(len(indices)), dtype=np.uint8).copy()
    while (zero := np.flatnonzero(drawn == 0)).size:
        drawn[zero] = np.frombuffer(random_bytes(zero.size), dtype=np.uint8)
    marks = np.zeros(size, dtype=MARKS.dtype)
    marks[indices.numpy()] = drawn
    return marks


def marked(total: Codes, least: int = 1) -> Tensor:
    """Where the sum is at least this, int64, ascending: by default, the entries that were chosen."""
    return torch.from_numpy(np.flatnonzero(total >= least))
