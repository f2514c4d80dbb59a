"""scikit-learn's handwritten digits: real images that need no download."""

import torch

from gradwire.data.dataset import Dataset
from gradwire.data.splits import holdout

_MAXIMUM = 16  # pixels count the black dots of a 4×4 block


def load_digits(split: str, limit: int | None = None) -> Dataset:
    """Load the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998).

    The 1,797 images (1×8×8, float32, 17 levels of gray) come in one piece; a fixed 80 % of each class is the train
    split here and the other 20 % the test split (`gradwire.data.splits.holdout`).
    """
    import sklearn.datasets  # slow to import, and needed by this data set alone

    bunch = sklearn.datasets.load_digits()
    chosen = holdout(bunch.target, split)[:limit]
    return Dataset(
        name="digits",
        split=split,
        images=torch.from_numpy(bunch.images[chosen]).float().div(_MAXIMUM).unsqueeze(1),
        labels=torch.from_numpy(bunch.target[chosen]).long(),
        classes=tuple(str(name) for name in bunch.target_names),
    )
