"""A random rotation, which spreads a vector's energy evenly over its entries: signs, then a Hadamard matrix.

A. T. Suresh, F. X. Yu, S. Kumar, H. B. McMahan, "Distributed mean estimation with limited communication", ICML 2017.
"""

from math import sqrt

import torch
from torch import Tensor


def padded(size: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << max(0, size - 1).bit_length()


def hadamard(values: Tensor) -> Tensor:
    """H·x / √d for x of shape (d,), d a power of two; it is its own inverse."""
    size, step = len(values), 1
    values = values.clone()
    while step < size:
        pairs = values.view(-1, 2, step)
        low, high = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]
        values = torch.stack((low, high), 1).view(-1)
        step *= 2
    return values / sqrt(size)


def signs(size: int, generator: torch.Generator) -> Tensor:
    """Public random signs, float64, shape (size,)."""
    return torch.randint(0, 2, (size,), generator=generator, dtype=torch.float64).mul_(2).sub_(1)
