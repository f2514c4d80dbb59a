"""The variance of a mean over pairs of a model and an example, where pairs share their models and their examples.

A. C. Cameron, J. B. Gelbach, D. L. Miller, "Robust inference with multiway clustering", Journal of Business and
Economic Statistics 29(2), 2011, eq. 2.11: the variance between examples, plus that between models, less that of pairs,
which both count. For areas and rates of clustered data it is taken of influences, as N. A. Obuchowski, "Nonparametric
analysis of clustered ROC curve data", Biometrics 53(2), 1997, does for clusters of one kind.
"""

from typing import NamedTuple

import numpy as np

FEW = 5
"""Models below which their variance cannot be told: intervals then are of these models, over examples alone."""


class Variance(NamedTuple):
    """The variance of a sum of influences.

    Attributes:
        value: of the sum.
        independent: what it would be if every pair were drawn by itself.
        freedom: the degrees of freedom of `value`.
    """

    value: float
    independent: float
    freedom: float


def variance(influence: np.ndarray, models: np.ndarray) -> Variance:
    """The variance of the sum of influences.

    Args:
        influence: of every pair on the figure, shape (M, N), each about 0 in the mean; 0 where a pair is not judged.
        models: int, shape (M,): rows with the same number are one model.
    """
    pairs = float(np.square(influence).sum())
    examples, freedom = _between(influence.sum(0))
    numbers = np.unique(models)
    if len(numbers) < FEW:
        return Variance(examples, pairs, freedom)
    sums = np.zeros(int(models.max()) + 1)
    np.add.at(sums, models, influence.sum(1))
    several, few = _between(sums[numbers])
    # The difference is noisy, and can even be negative.
    value = max(examples + several - pairs, min(examples, several))
    # Satterthwaite's approximation.
    return Variance(value, pairs, value**2 / max(examples**2 / freedom + several**2 / few, 1e-300))


def _between(sums: np.ndarray) -> tuple[float, float]:
    """The variance of a sum of independent terms, and its degrees of freedom, which a few large terms make few.

    They are 2·V²/Var V̂, with the variance of V̂ from the terms' fourth powers: about n − 1 where terms are normal.
    """
    count, squares = len(sums), np.square(sums)
    value = float(squares.sum())
    spread = float(np.square(squares).sum()) - value**2 / count
    freedom = 2 * value**2 / spread if spread > 0 else count - 1.0
    return value * count / max(count - 1, 1), max(freedom, 1.0)
