"""Tables as data sets: data frames, CSV and Parquet files, folders of splits, and those that gradwire knows by name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire.data import frames
from gradwire.data.dataset import Dataset
from gradwire.data.encoding import CATEGORIES, NUMBERS, Encoding, kind, numbers, values, words
from gradwire.data.hub import ROOT_VARIABLE
from gradwire.data.splits import SPLITS, holdout
from gradwire.data.targets import Targets
from gradwire.errors import GradwireError
from gradwire.tasks import Task


@dataclass(frozen=True, eq=False)
class TableSource:
    """A table, of which `source("train")` and `source("test", limit=100)` are data sets; `gradwire.data.load` takes it.

    Attributes:
        name: what the data set is called in tables.
        train: its rows, a DataFrame; all rows where `test` is None, of which 20 % become the test split.
        test: the rows of the test split.
        target: the columns that a network is to tell.
        numbers: columns that hold numbers, whatever they look like, and `categories`, those that hold categories.
        drop: columns that are left out.
    """

    name: str
    train: Any
    test: Any
    target: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __call__(self, split: str, limit: int | None = None) -> Dataset:
        """The first `limit` rows of a split, all of them where it is None.

        Raises:
            GradwireError: columns that are missing or cannot be encoded, by name and row.
        """
        try:
            rows, told, encoding, targets = self._prepared
            inputs = encoding.encode(rows[split].iloc[:limit])
            answers = targets.encode(told[split].iloc[:limit])
        except GradwireError as error:
            raise GradwireError(f"data {self.name!r}: {error}") from None
        return Dataset(self.name, split, inputs, answers, Task(encoding.domain, targets.loss))

    @cached_property
    def _prepared(self) -> tuple[Mapping[str, Any], Mapping[str, Any], Encoding, Targets]:
        """By split, the tidy features and the targets as they stand; and what the training split says of each."""
        train, lists = self._taken(self.train)
        told = self._spread(self.target, lists)
        features = [name for name in train.columns if name not in told]
        if not features:
            raise GradwireError("table has no column beside its target; a network needs one")
        classes = len(told) == 1 and self._kind(train[told[0]], lists) == CATEGORIES
        groups = {name: values(train[name]) for name in features if self._kind(train[name], lists) == CATEGORIES}
        tidy, answers = _tidy(train[features], groups), train[list(told)]
        if self.test is None:
            parts = _divided(answers, classes, tidy[list(groups)])
            rows, told_of = ({split: each.iloc[where] for split, where in parts.items()} for each in (tidy, answers))
        else:
            tested = self._tested(train, features, told, groups)
            rows, told_of = (
                {"train": ours, "test": theirs} for ours, theirs in zip((tidy, answers), tested, strict=True)
            )
        fitted = Targets.fit(told_of["train"], classes)
        return rows, told_of, Encoding.fit(rows["train"], groups), fitted

    def _tested(self, train: Any, features: Sequence[str], told: Sequence[str], groups: Mapping[str, Any]) -> Any:
        """The test split's tidy features and targets."""
        try:
            test, _ = self._taken(self.test)
            if missing := [name for name in train.columns if name not in test.columns]:
                raise GradwireError(f"there is no column {missing[0]!r}, which the training split has")
            return _tidy(test[list(features)], groups), test[list(told)]
        except GradwireError as error:
            raise GradwireError(f"test split: {error}") from None

    def _taken(self, rows: Any) -> tuple[Any, Mapping[str, tuple[str, ...]]]:
        """The rows without what is dropped, lists as columns of their own, and what was made of each of these."""
        found = frames.frame(rows)
        has = f"it has {', '.join(found.columns)}"
        if not self.target:
            raise GradwireError(f"table has no target column named; say target=NAME: {has}")
        for what, names in (("target", self.target), ("numbers", self.numbers)):
            if missing := [name for name in names if name not in found.columns]:
                raise GradwireError(f"table has no column {missing[0]!r}, named as {what}; {has}")
        for what, names in (("categories", self.categories), ("drop", self.drop)):
            if missing := [name for name in names if name not in found.columns]:
                raise GradwireError(f"table has no column {missing[0]!r}, named as {what}; {has}")
            if twice := set(names) & set(self.target if what == "drop" else self.numbers):
                raise GradwireError(f"column {min(twice)!r} is named twice, one of them as {what}; name it once")
        return frames.widened(found.drop(columns=list(self.drop)))

    def _kind(self, column: Any, lists: Mapping[str, tuple[str, ...]]) -> str:
        """What a column holds: as its user says, or as it looks; the entries of lists are numbers."""
        if column.name in self._spread(self.categories, lists):
            return CATEGORIES
        if column.name in self._spread((*self.numbers, *lists), lists):
            return NUMBERS
        return kind(column)

    @staticmethod
    def _spread(names: Sequence[str], lists: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Names of columns, those of lists replaced by what was made of them."""
        return tuple(made for name in names for made in lists.get(name, (name,)))


def table(
    rows: Any,
    *,
    target: str | Sequence[str],
    test: Any = None,
    numbers: Sequence[str] = (),
    categories: Sequence[str] = (),
    drop: Sequence[str] = (),
    name: str = "table",
) -> TableSource:
    """A table in memory as a source of data.

    >>> people = table(frame, target="income", drop=["id"])
    >>> people("train"), people("test", limit=100)

    Args:
        rows: a pandas DataFrame or a Hugging Face `datasets.Dataset`; or both splits, a `DatasetDict` or any mapping
            from `train` and `test`. Of rows alone, a fixed 20 % (of each class) becomes the test split.
        target: the column that a network is to tell; or several, all numbers or all zeros and ones.
        test: the rows of the test split.
        numbers: columns that hold numbers, and `categories`, those that hold categories, where a guess would be wrong
            (see `gradwire.data.encoding.kind`).
        drop: columns to leave out.
        name: what the data set is called in tables.

    Raises:
        GradwireError: a mapping that lacks a split.
    """
    if isinstance(rows, Mapping):
        if missing := [split for split in SPLITS if split not in rows]:
            raise GradwireError(f"table has the splits {', '.join(rows)} but no {missing[0]!r}; it needs both")
        rows, test = (rows[split] for split in SPLITS)
    named = (target,) if isinstance(target, str) else tuple(target)
    return TableSource(name, rows, test, named, tuple(numbers), tuple(categories), tuple(drop))


def load_table(
    path: Path,
    split: str,
    limit: int | None = None,
    *,
    target: str = "",
    numbers: str = "",
    categories: str = "",
    drop: str = "",
) -> Dataset:
    """Load a split of a CSV or Parquet file, or of a folder of `train` and `test` files.

    Args:
        target: columns, with `|` between them, as `numbers`, `categories` and `drop`; see `table`.
    """
    rows, test = frames.read(path)
    parts = (_names(each) for each in (target, numbers, categories, drop))
    return TableSource(path.name, rows, test, *parts)(split, limit)


def adult(split: str, limit: int | None = None, target: str = "income", drop: str = "") -> Dataset:
    """The census income data (Becker and Kohavi 1996), 14 fields; income, at most 50,000 dollars or more, is told.

    `$GRADWIRE_DATA/adult/{train,test}-*.parquet` is read. Its column `label`, the income as a number, is left out.
    """
    return _at_hand("adult", split, limit, _names(target), drop=("label", *_names(drop)))


def location30(split: str, limit: int | None = None) -> Dataset:
    """Places that users of Foursquare have been to or not, 446 zeros and ones, in 30 clusters (Shokri et al. 2017).

    `$GRADWIRE_DATA/location30/{train,test}-*.parquet` is read. Each bit is one column, a number from 0 to 1: as a
    category it would be two, with nothing more in them. A search stays within [0, 1], and a guess is rounded, so that
    it is right where it is equal.
    """
    return _at_hand("location30", split, limit, ("label",), categories=("label",))


def diabetes(split: str, limit: int | None = None, target: str = "target", drop: str = "") -> Dataset:
    """442 patients' ten fields and how their diabetes had progressed a year later (Efron et al. 2004), a number."""
    from sklearn.datasets import load_diabetes

    rows = load_diabetes(as_frame=True, scaled=False).frame
    return TableSource("diabetes", rows, None, _names(target), drop=_names(drop))(split, limit)


def linnerud(split: str, limit: int | None = None, target: str = "Weight|Waist|Pulse", drop: str = "") -> Dataset:
    """Three exercises of twenty men (Linnerud), by which weight, waist and pulse are told: three numbers."""
    from sklearn.datasets import load_linnerud

    rows = load_linnerud(as_frame=True).frame
    return TableSource("linnerud", rows, None, _names(target), tuple(rows.columns), drop=_names(drop))(split, limit)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split("|"))))


def _at_hand(name: str, split: str, limit: int | None, target: tuple[str, ...], **columns: tuple[str, ...]) -> Dataset:
    """A split of the table in `$GRADWIRE_DATA/NAME`."""
    folder = Path(os.environ.get(ROOT_VARIABLE, "")) / name
    if not os.environ.get(ROOT_VARIABLE) or not folder.is_dir():
        wanted = f"a folder that holds {name}/{{train,test}}-*.parquet"
        raise GradwireError(f"data {name!r} are not at hand; set {ROOT_VARIABLE} to {wanted}")
    return TableSource(name, *frames.read(folder), target, **columns)(split, limit)


def _tidy(rows: Any, groups: Mapping[str, Sequence[str]]) -> Any:
    """The features as `numbers` and `words`."""
    import pandas as pd  # type: ignore[import-untyped]

    return pd.DataFrame({name: (words if name in groups else numbers)(rows[name]) for name in rows.columns})


def _divided(told: Any, classes: bool, categories: Any) -> dict[str, NDArray[np.int64]]:
    """Positions of rows by split, by `holdout`: of each class by itself, where there are classes.

    A row of the test split with a category that no row of the training split has goes over to the latter, so that every
    category can be learned.
    """
    labels = Targets.fit(told, classes).encode(told).numpy() if classes else np.zeros(len(told), np.int64)
    train, test = (holdout(labels, split) for split in SPLITS)
    for name in categories.columns:
        cells = categories[name].to_numpy().astype(str)
        unseen = ~np.isin(cells[test], cells[train])
        train, test = np.concatenate([train, test[unseen]]), test[~unseen]
    return dict(zip(SPLITS, (train, test), strict=True))
