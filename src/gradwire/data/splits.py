"""Splits: how data that come without a train and a test split are divided; among them scikit-learn's digits."""

import numpy as np
import torch
from numpy.typing import NDArray

from gradwire.data.dataset import Dataset, image_dataset

SPLITS = ("train", "test")


def shuffled(n: int) -> NDArray[np.int64]:
    """The numbers 0 to n − 1 in an order that depends on n alone, so that files sorted by class do not stay so."""
    return _generator().permutation(n)


def holdout(labels: NDArray[np.int64], split: str) -> NDArray[np.int64]:
    """The positions in `labels` of the examples of one split, shuffled: 80 % train and 20 % test, always the same.

    Each class is divided by itself: one of two or more examples is in both splits, one of a single example in train.
    """
    rng = _generator()
    in_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        wanted = max(1, round(0.2 * len(members)))
        in_test[members[: min(wanted, len(members) - 1)]] = True
    return rng.permutation(np.flatnonzero(in_test == (split == "test")))


def load_digits(split: str, limit: int | None = None) -> Dataset:
    """Load the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998).

    The 1,797 images are 1×8×8, float32, with 17 levels of gray; `holdout` divides them.
    """
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    chosen = holdout(bunch.target, split)[:limit]
    return image_dataset(
        "digits",
        split,
        images=torch.from_numpy(bunch.images[chosen]).float().div(16).unsqueeze(1),  # 16 dots of a 4×4 block
        labels=torch.from_numpy(bunch.target[chosen]).long(),
        classes=tuple(str(name) for name in bunch.target_names),
    )


def _generator() -> np.random.RandomState:
    # Not default_rng: NumPy promises that this generator's stream never changes (NEP 19), and neither must a split.
    return np.random.RandomState(0)
