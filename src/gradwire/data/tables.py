"""Tables as data sets: data frames, CSV and Parquet files, and folders of splits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire.data import frames
from gradwire.data.dataset import Dataset
from gradwire.data.encoding import CATEGORIES, NUMBERS, Encoding, kind, numbers, values, words
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
        with _about(f"data {self.name!r}"):
            rows, told, encoding, targets = self._prepared
            inputs = encoding.encode(rows[split].iloc[:limit])
            answers = targets.encode(told[split].iloc[:limit])
        return Dataset(self.name, split, inputs, answers, Task(encoding.domain, targets.loss))

    @cached_property
    def _prepared(self) -> tuple[Mapping[str, Any], Mapping[str, Any], Encoding, Targets]:
        """By split, the tidy features and the targets as they stand; and what the training split says of each."""
        whole = frames.frame(self.train)
        self._check_names(whole)
        train, lists = frames.widened(whole.drop(columns=list(self.drop)))
        told = list(self._spread(self.target, lists))
        features = [name for name in train.columns if name not in told]
        if not features:
            raise GradwireError("table has no column beside its target; a network needs one")
        # Several targets are numbers in any case.
        classes = len(told) == 1 and self._kind(train[told[0]], lists) == CATEGORIES
        groups = {name: values(train[name]) for name in features if self._kind(train[name], lists) == CATEGORIES}
        tidy, answers = _tidy(train[features], groups), train[told]
        if self.test is None:
            parts = _divided(answers, classes, tidy[list(groups)])
            rows, targets = ({split: each.iloc[where] for split, where in parts.items()} for each in (tidy, answers))
        else:
            test = self._tested([*features, *told])
            rows, targets = {"train": tidy}, {"train": answers, "test": test[told]}
            with _about("test split"):
                rows["test"] = _tidy(test[features], groups)
        return rows, targets, Encoding.fit(rows["train"], groups), Targets.fit(targets["train"], classes)

    def _tested(self, columns: Sequence[str]) -> Any:
        """The rows of the test split, which has all these columns."""
        with _about("test split"):
            found, _ = frames.widened(frames.frame(self.test).drop(columns=list(self.drop), errors="ignore"))
            if missing := [name for name in columns if name not in found.columns]:
                raise GradwireError(f"table has no column {missing[0]!r}, which the training split has")
            return found

    def _check_names(self, rows: Any) -> None:
        """Refuse columns that are not there, and those named as two things."""
        has = f"it has {', '.join(rows.columns)}"
        if not self.target:
            raise GradwireError(f"table has no target column named; say target=NAME: {has}")
        named = {name: getattr(self, name) for name in ("target", "numbers", "categories", "drop")}
        for what, names in named.items():
            if missing := [name for name in names if name not in rows.columns]:
                raise GradwireError(f"table has no column {missing[0]!r}, named as {what}; {has}")
        for one, other in (("target", "drop"), ("numbers", "categories"), ("numbers", "drop"), ("categories", "drop")):
            if twice := sorted(set(named[one]) & set(named[other])):
                raise GradwireError(f"column {twice[0]!r} is named as {one} and as {other}; name it once")

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
    rows, test = frames.both(rows, test)
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
    columns = {"target": target, "numbers": numbers, "categories": categories, "drop": drop}
    return at_path(path.name, path, **{what: split_names(names) for what, names in columns.items()})(split, limit)


def split_names(text: str) -> tuple[str, ...]:
    """The columns that a spec names, with `|` between them."""
    return tuple(filter(None, (name.strip() for name in text.split("|"))))


def at_path(name: str, path: Path, **columns: tuple[str, ...]) -> TableSource:
    """The table of a file or folder; its columns as `TableSource` has them."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] * path.is_file()
    age = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _read(name, path, path.resolve(), age, tuple(columns.items()))


@lru_cache(1)
def _read(name: str, path: Path, _place: Path, _age: object, columns: Any) -> TableSource:
    """The table at a path; the last one is kept, for its two splits are asked for one after the other."""
    return TableSource(name, *frames.read(path), **dict(columns))


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Say before every refusal what it is about."""
    try:
        yield
    except GradwireError as error:
        raise GradwireError(f"{what}: {error}") from None


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
