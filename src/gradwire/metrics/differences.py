"""Intervals of a mean, or of the difference of two: what a claim that compares is judged by.

Where there are too few values for an interval it is the whole line, so that nothing can be said.
"""

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from statistics import fmean, variance

import numpy as np

from gradwire.metrics.intervals import Figure, wilson

LEAST = 8
"""Values from which on a bootstrap means anything."""
DRAWS = 4000


def welch(first: Sequence[float], second: Sequence[float] | None = None, *, level: float = 0.05) -> Figure:
    """Welch's t interval (Biometrika 34, 1947) of mean(first) − mean(second), or of mean(first) by Student's.

    Values that are all alike have an interval without width.
    """
    from scipy.stats import t  # type: ignore[import-untyped]

    sides = [first] if second is None else [first, second]
    value = fmean(first) - (0.0 if second is None else fmean(second))
    if min(map(len, sides)) < 2:
        return Figure(value, -inf, inf)
    parts = [(variance(side) / len(side), len(side) - 1) for side in sides]
    total = sum(part for part, _ in parts)
    if not total:
        return Figure(value, value, value)
    freedom = total**2 / sum(part**2 / left for part, left in parts)
    reach = float(t.ppf(1 - level / 2, freedom)) * sqrt(total)
    return Figure(value, value - reach, value + reach)


def share(values: Sequence[float], level: float = 0.05) -> Figure:
    """Wilson's interval (JASA 22, 1927) of the share of ones."""
    from scipy.stats import norm

    return Figure(fmean(values), *wilson(fmean(values), len(values), float(norm.ppf(1 - level / 2))))


def newcombe(first: Figure, second: Figure | None = None) -> Figure:
    """The interval of a difference from those of its two sides; R. G. Newcombe, Stat. Med. 17, 1998, method 10."""
    if second is None:
        return first
    value = first.value - second.value
    low = value - sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    high = value + sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Figure(value, low, high)


def bootstrap(
    first: Mapping[object, float], second: Mapping[object, float] | None = None, *, level: float = 0.05
) -> Figure:
    """The expanded percentile interval (T. Hesterberg, Am. Stat. 69, 2015, section 5.2), which is wide enough for few.

    Args:
        first, second: unit → value; where both have the same units, a unit's two values are drawn together.
    """
    from scipy.stats import norm, t

    random = np.random.default_rng(0)
    one = np.array(list(first.values()))
    other = np.zeros(1) if second is None else np.array(list(second.values()))
    value = float(one.mean() - other.mean())
    if second is not None and first.keys() == second.keys():
        one, other = one - np.array([second[unit] for unit in first]), np.zeros(1)
    sizes = [len(side) for side in ((one,) if len(other) == 1 and not other.any() else (one, other))]
    if min(sizes) < LEAST:
        return Figure(value, -inf, inf)
    drawn = [side[random.integers(len(side), size=(DRAWS, len(side)))].mean(1) for side in (one, other)]
    least = min(sizes)
    tail = float(norm.cdf(-sqrt(least / (least - 1)) * t.ppf(1 - level / 2, least - 1)))
    low, high = np.quantile(drawn[0] - drawn[1], [tail, 1 - tail])
    return Figure(value, float(low), float(high))
