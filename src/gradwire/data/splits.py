"""The two splits, and how data that come without them are divided."""

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "test")

TEST_SHARE = 0.2
"""The part of each class that `holdout` gives to the test split."""

_SEED = 0


def shuffled(n: int) -> NDArray[np.int64]:
    """Give the numbers 0 to n-1 in an order that depends on n alone.

    Files sorted by class must not stay so, or the first few images would all be of one class.
    """
    return _generator().permutation(n)


def holdout(labels: NDArray[np.int64], split: str) -> NDArray[np.int64]:
    """Choose the examples of one split, 80 % train and 20 % test, class by class, always the same.

    Args:
        labels: N class numbers.
        split: `train` or `test`; the two are disjoint and together give every example.

    Returns:
        Positions in `labels`, shuffled. A class of two or more examples is in both splits; a class of one in train.
    """
    rng = _generator()
    in_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        wanted = max(1, round(TEST_SHARE * len(members)))
        in_test[members[: min(wanted, len(members) - 1)]] = True
    return rng.permutation(np.flatnonzero(in_test == (split == "test")))


def _generator() -> np.random.RandomState:
    # Not default_rng: NumPy promises that this generator's stream never changes (NEP 19), and neither must a split.
    return np.random.RandomState(_SEED)
