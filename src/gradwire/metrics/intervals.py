"""Confidence intervals: of a rate, of a share, of a mean of two rates, of an area under a curve."""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from gradwire.metrics.roc import Roc


class Figure(NamedTuple):
    """A figure and its confidence interval."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: Any, trials: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The exact interval of a binomial rate: it holds the rate in at least this share of all experiments.

    C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26(4), 1934. Half of what is left of `confidence` lies on each side, so that either limit alone holds
    with confidence (1 + confidence) / 2.

    Args:
        successes: k, a number or an array, and trials: n ≥ k, likewise.

    Returns:
        lower and upper limits.
    """
    # Imported when needed: scipy takes a while, which no command that measures nothing should pay.
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    tail = (1 - confidence) / 2
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high


def rate(successes: int, trials: int, confidence: float = 0.95) -> Figure:
    """A rate with its Clopper–Pearson interval."""
    low, high = clopper_pearson(successes, trials, confidence)
    return Figure(successes / trials, float(low), float(high))


def wilson(share: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927).

    It holds for means of values in [0, 1] too, whose variance is at most share·(1 − share): then it is too wide, never
    too narrow. So a victim is one trial, however many labels it has, for those of one batch are not independent.
    """
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def mean_of_rates(first: Figure, second: Figure) -> Figure:
    """The mean of two independent rates: distances to their limits, added in squares.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
    17(8), 1998, method 10, for the mean in place of the difference and with exact limits of each rate.
    """
    value = (first.value + second.value) / 2
    down = sqrt((first.value - first.low) ** 2 + (second.value - second.low) ** 2) / 2
    up = sqrt((first.high - first.value) ** 2 + (second.high - second.value) ** 2) / 2
    return Figure(value, value - down, value + up)


BINS = 1000
"""Steps of a curve that the bootstrap keeps apart, at most."""


def auc(curve: Roc, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Figure:
    """The area under a curve, with the bootstrap's percentile interval: both sides drawn anew, with replacement.

    How often each score comes up in a resample is multinomial, so that no example needs to be drawn by itself. Of a
    curve with more than `BINS` steps, neighbours are taken together for their number alone: what that does to the area,
    which is less than their share of all pairs, is taken out again.

    Where every member scores above every non-member, so it does in every resample, and the interval is a point.
    """
    random = np.random.default_rng(seed)
    sides = [side.diff().numpy() for side in (curve.true, curve.false)]
    if len(curve.thresholds) > BINS:
        passed = (curve.true + curve.false)[1:].numpy() - 1
        places = passed * BINS // (curve.members + curve.nonmembers)
        sides = [np.bincount(places, side, BINS).astype(np.int64) for side in sides]
    found, suspected = (random.multinomial(side.sum(), side / side.sum(), resamples) for side in sides)
    areas = _areas(found, suspected) + curve.auc - _areas(*(side[None] for side in sides))
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Figure(curve.auc, float(low), float(high))


def _areas(found: np.ndarray, suspected: np.ndarray) -> np.ndarray:
    """The area under the curve of each row of counts, scores falling along the columns."""
    above = found.cumsum(1) - 0.5 * found
    return (suspected * above).sum(1) / (found.sum(1) * suspected.sum(1))
