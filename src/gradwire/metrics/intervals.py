"""Confidence intervals: of a rate, of a share, of a mean of two rates, of an area under a curve."""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from gradwire.metrics.roc import Roc

BINS = 1000
"""Steps of a curve that the bootstrap keeps apart, at most."""


class Figure(NamedTuple):
    """A figure and its confidence interval."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: Any, trials: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The exact interval of k successes in n ≥ k trials: both limits, each failing with (1 − confidence) / 2.

    C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26(4), 1934.
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    tail = (1 - confidence) / 2
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high


def rate(successes: int, trials: int, confidence: float = 0.95) -> Figure:
    """A rate with its Clopper–Pearson interval."""
    return Figure(successes / trials, *map(float, clopper_pearson(successes, trials, confidence)))


def wilson(share: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927), never too narrow for a mean of values in [0, 1], one a trial."""
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def mean_of_rates(first: Figure, second: Figure) -> Figure:
    """The mean of two independent rates; the distances to their limits are added in squares.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
    17(8), 1998, method 10, for the mean in place of the difference and with exact limits of each rate.
    """
    value = (first.value + second.value) / 2
    down = sqrt((first.value - first.low) ** 2 + (second.value - second.low) ** 2) / 2
    up = sqrt((first.high - first.value) ** 2 + (second.high - second.value) ** 2) / 2
    return Figure(value, value - down, value + up)


def auc(curve: Roc, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Figure:
    """The area under a curve, with the bootstrap's percentile interval over members and non-members drawn anew.

    A score's count in a resample is multinomial, so no example is drawn by itself. Neighbouring steps of a curve with
    more than `BINS` are drawn together, and what that changes in the area is taken out again. The interval is a point
    where every member scores above every non-member.
    """
    random = np.random.default_rng(seed)
    sides = [side.diff().numpy() for side in (curve.true, curve.false)]
    if len(curve.thresholds) > BINS:
        passed = (curve.true + curve.false)[1:].numpy() - 1
        places = passed * BINS // (curve.members + curve.nonmembers)
        sides = [np.bincount(places, side, BINS).astype(np.int64) for side in sides]
    true, false = (random.multinomial(side.sum(), side / side.sum(), resamples) for side in sides)
    areas = _areas(true, false) + curve.auc - _areas(*(side[None] for side in sides))
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Figure(curve.auc, float(low), float(high))


def _areas(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """The area under the curve of each row of counts, scores falling along the columns."""
    above = true.cumsum(1) - 0.5 * true
    return (false * above).sum(1) / (true.sum(1) * false.sum(1))
