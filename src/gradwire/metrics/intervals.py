"""Confidence intervals: of a rate, of a mean of two rates, of an area under a curve."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from gradwire.metrics.roc import Roc, check


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


def mean_of_rates(first: Figure, second: Figure) -> Figure:
    """The mean of two independent rates: distances to their limits, added in squares.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
    17(8), 1998, method 10, for the mean in place of the difference and with exact limits of each rate.
    """
    value = (first.value + second.value) / 2
    down = sqrt((first.value - first.low) ** 2 + (second.value - second.low) ** 2) / 2
    up = sqrt((first.high - first.value) ** 2 + (second.high - second.value) ** 2) / 2
    return Figure(value, value - down, value + up)


def auc(
    curve: Roc, scores: Tensor, members: Tensor, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Figure:
    """The area under a curve, with the bootstrap's percentile interval: both sides drawn anew, with replacement.

    Where every member scores above every non-member, so it does in every resample, and the interval is a point.

    Args:
        curve: the curve of these scores and members.
        scores, members: shape (n,), as `roc` takes them.
    """
    check(scores, members)
    places = scores.double().unique(return_inverse=True)[1]
    random = np.random.default_rng(seed)
    distinct = int(places.max()) + 1
    counts = (_resampled(places[side].numpy(), distinct, resamples, random) for side in (members, ~members))
    areas = np.concatenate([_areas(found, suspected) for found, suspected in zip(*counts, strict=True)])
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Figure(curve.auc, float(low), float(high))


_BLOCK = 100_000
"""Counts held at once: what fits into a processor's cache is quickest."""


def _resampled(places: np.ndarray, distinct: int, resamples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each distinct score comes up in each resample, a block (r, distinct) at a time."""
    size = max(1, _BLOCK // distinct)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = places[random.integers(0, len(places), (rows, len(places)), dtype=np.int32)]
        drawn += distinct * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * distinct).reshape(rows, distinct)


def _areas(found: np.ndarray, suspected: np.ndarray) -> np.ndarray:
    """The area under the curve of each row of counts, scores rising along the columns."""
    below = suspected.cumsum(1) - 0.5 * suspected
    return (found * below).sum(1) / (found.sum(1) * suspected.sum(1))
