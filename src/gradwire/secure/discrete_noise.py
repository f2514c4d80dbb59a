"""Noise over the integers, drawn by inversion from secret uniform numbers: discrete Gaussian and Skellam.

C. Canonne, G. Kamath, T. Steinke, "The discrete Gaussian for differential privacy", NeurIPS 2020; N. Agarwal,
P. Kairouz, Z. Liu, "The Skellam mechanism for differentially private federated learning", NeurIPS 2021. A table holds
the distribution within 12 standard deviations (what lies outside has a probability below 2⁻¹⁰⁰) to 53 bits: what is
drawn is within 2⁻⁵³ an entry of it, which d entries add to δ.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradwire.secure.kdf import KEY_BYTES, random_bytes
from gradwire.secure.masks import expand

Kind = Literal["gaussian", "skellam"]
REACH = 12
"""Standard deviations."""
FINEST = 1 << 13
"""The largest standard deviation, in steps: finer steps than 1/8192 of it gain nothing."""


@lru_cache(maxsize=8)
def _table(kind: Kind, deviation: float) -> tuple[int, NDArray[np.float64]]:
    """The least number drawn, and P(X ≤ it + i) for i = 0, 1, …"""
    reach = int(np.ceil(REACH * deviation)) + 1
    numbers = np.arange(reach + 1, dtype=np.float64)
    if kind == "gaussian":
        half = np.exp(-(numbers**2) / (2 * deviation**2))
    else:
        from scipy.special import ive  # type: ignore[import-untyped]

        half = ive(numbers, deviation**2)
    weights = np.concatenate([half[:0:-1], half])
    return -reach, np.cumsum(weights) / weights.sum()


def uniform(count: int) -> NDArray[np.float64]:
    """Secret uniform numbers in [0, 1), of 53 bits."""
    bits = expand(random_bytes(KEY_BYTES), count, np.dtype("<u8"))
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def draw(kind: Kind, deviation: float, count: int) -> NDArray[np.int64]:
    """So many independent integers with mean 0 and this standard deviation."""
    least, table = _table(kind, deviation)
    return np.searchsorted(table, uniform(count), side="right") + least
