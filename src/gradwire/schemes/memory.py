"""Memory for large vectors, used again: the system's fresh memory costs as much as a pass over what is in it."""

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 25
"""Bytes from which the C library gives memory back to the system each time that it is freed."""

_spare: list[NDArray[np.uint8]] = []


def empty(count: int, dtype: torch.dtype) -> Tensor:
    """A vector of so many entries, whatever they hold.

    NumPy asks for huge pages and PyTorch does not: with 10⁷ entries that saves a third of the time. Of large vectors
    that nobody holds any more the last one's memory is kept for the next of its size.
    """
    size = count * dtype.itemsize
    if size < LARGE:
        return torch.from_numpy(np.empty(size, np.uint8)).view(dtype)
    try:
        memory = _spare.pop()
    except IndexError:
        memory = np.empty(size, np.uint8)
    if memory.nbytes != size:
        memory = np.empty(size, np.uint8)
    lent = memory.view()
    weakref.finalize(lent, _give_back, memory).atexit = False
    return torch.from_numpy(lent).view(dtype)


def _give_back(memory: NDArray[np.uint8]) -> None:
    _spare[:] = [memory]
