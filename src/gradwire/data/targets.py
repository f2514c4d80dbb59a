"""The targets of a table: which loss they suit, and how they are written for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradwire.data.encoding import codes, numbers, values, words
from gradwire.errors import GradwireError
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, TaskLoss


@dataclass(frozen=True)
class Targets:
    """The target columns of a table.

    One column of categories is a class (cross-entropy), one or several of numbers are regressed (mean squared error),
    and several of zeros and ones are labels of which each holds or not (binary cross-entropy). Numbers that are
    regressed are standardised by the mean and standard deviation of the training split: in their own unit a usual
    learning rate makes training diverge, and a mean over targets of several units would mean nothing. So losses and
    absolute errors are in standard deviations.

    Attributes:
        loss: with the names of the classes.
        mean: of each number that is regressed, and `std`, its standard deviation; () of other targets.
    """

    loss: TaskLoss
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def fit(cls, rows: Any, classes: bool) -> "Targets":
        """What the target columns of training rows, a DataFrame, are.

        Args:
            classes: whether it is one column of categories.

        Raises:
            GradwireError: one class only, the same number everywhere, or several targets that go by no one loss.
        """
        names = list(rows.columns)
        if classes:
            if (held := words(rows[names[0]])).nunique() < 2:
                raise GradwireError(f"target {names[0]!r} has one class only, {held.iloc[0]!r}; two or more are needed")
            return cls(CrossEntropy(values(rows[names[0]])))
        try:
            found = cls._numbers(rows)
        except GradwireError as error:
            if len(names) == 1:
                raise
            raise GradwireError(f"{len(names)} targets must all be numbers, or all zeros and ones: {error}") from None
        for name, column in zip(names, found.T, strict=True):
            if (column == column[0]).all():
                raise GradwireError(f"target {name!r} is constant, {column[0]:g} in every row of the training split")
        if len(names) > 1 and np.isin(found, (0, 1)).all():
            return cls(BinaryCrossEntropy(len(names)))
        mean, std = (tuple(map(float, each)) for each in (found.mean(0), found.std(0)))
        return cls(MeanSquaredError(len(names)), mean, std)

    def encode(self, rows: Any) -> Tensor:
        """The target columns of rows, a DataFrame: class numbers, int64 (N,), or float32 (N, outputs).

        Raises:
            GradwireError: a class that the training split has not, or a cell that is no number.
        """
        if isinstance(self.loss, CrossEntropy):
            return torch.from_numpy(codes(words(rows.iloc[:, 0]), self.loss.classes, "target"))
        found = self._numbers(rows)
        if self.mean:
            found = (found - np.array(self.mean)) / np.array(self.std)
        return torch.from_numpy(found.astype(np.float32))

    @staticmethod
    def _numbers(rows: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.stack([numbers(rows[name]).to_numpy(np.float64) for name in rows.columns], 1)
