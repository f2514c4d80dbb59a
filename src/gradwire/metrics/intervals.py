"""Confidence intervals: of a rate, of a share, of a mean over pairs that share their models and examples."""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from gradwire.metrics.clusters import Variance


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


def wilson(share: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927), never too narrow for a mean of values in [0, 1], one a trial."""
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def quantile(variance: Variance, confidence: float) -> float:
    """How many of its standard deviations to either side an interval reaches, by Student's t."""
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf((1 + confidence) / 2, max(variance.freedom, 2.0)))


def share(value: float, variance: Variance, most: int, confidence: float = 0.95) -> Figure:
    """A mean of values in [0, 1] with the score interval of as many trials as would give it this variance.

    Args:
        most: trials where the variance is 0, as where every member scores above every non-member.
    """
    trials = value * (1 - value) / variance.value if variance.value > 0 else float(most)
    return Figure(value, *wilson(value, max(trials, 1e-9), quantile(variance, confidence)))
