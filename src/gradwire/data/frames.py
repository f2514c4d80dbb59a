"""Tables as pandas data frames: from files, folders of splits, and the objects of other libraries."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradwire.data.splits import SPLITS
from gradwire.errors import GradwireError, in_line

SUFFIXES = (".csv", ".tsv", ".parquet")
"""The files of a folder that are taken as tables: `train.csv` and `test.csv`, `train-00000.parquet` …"""
TEXT = (".csv", ".tsv", ".txt", ".data")
SEPARATORS = ",;\t"


def is_table(path: Path) -> bool:
    """Whether a path is meant as a table: a file, a name that ends as a table's, or a folder with files of splits."""
    if path.is_dir():
        return bool(_split_files(path, "train") or _split_files(path, "test"))
    return path.is_file() or path.suffix.lower() in SUFFIXES


def read(path: Path) -> tuple[Any, Any]:
    """The training and test rows of a file or folder, DataFrames; of a file, whose rows are not divided, no test rows.

    Raises:
        GradwireError: no such file, one that is neither CSV nor Parquet, a folder that lacks a split.
    """
    if not path.is_dir():
        return read_file(path), None
    files = {split: _split_files(path, split) for split in ("train", "test")}
    for split, found in files.items():
        if not found:
            other = "test" if split == "train" else "train"
            raise GradwireError(
                f"data folder {path} has {other} files but none of the {split} split; put {split}.csv "
                f"or {split}-*.parquet there"
            )
    train, test = (_joined(files[split]) for split in files)
    return train, test


def read_file(path: Path) -> Any:
    """The rows of a CSV or Parquet file.

    Only an empty cell of a CSV file is missing: `NA` and `None` are text, which a column of numbers refuses by its row.

    Raises:
        GradwireError: no such file, or one that is neither.
    """
    import pandas as pd  # type: ignore[import-untyped]
    import pyarrow as pa  # type: ignore[import-untyped]

    if not path.is_file():
        raise GradwireError(f"data file {path} does not exist; give the path of a CSV or Parquet file")
    try:
        with path.open("rb") as file:
            begins = file.read(4)
        if begins == b"PAR1":
            return pd.read_parquet(path)
        if path.suffix.lower() == ".parquet":
            raise GradwireError(f"data file {path} is no Parquet file, though it is called so; it must begin with PAR1")
        if path.suffix.lower() not in TEXT:
            raise ValueError(f"a CSV file's name ends in one of {' '.join(TEXT)}")
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        if "\0" in header:
            raise ValueError("it holds bytes that no text has")
        separator = max(SEPARATORS, key=header.count)
        options = {"keep_default_na": False, "na_values": [""], "skipinitialspace": True, "encoding": "utf-8-sig"}
        return pd.read_csv(path, sep=separator, **options)
    except GradwireError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise GradwireError(f"data file {path} is neither CSV nor Parquet: {in_line(error)}") from error


def frame(rows: Any) -> Any:
    """A DataFrame, or a Hugging Face dataset, as a DataFrame whose rows are counted from 0; names of classes are told.

    Raises:
        GradwireError: anything else, or two columns of one name.
    """
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        found = rows.reset_index(drop=True)
    elif hasattr(rows, "features") and hasattr(rows, "to_pandas"):
        found = rows.with_format(None).to_pandas()
        for name, feature in rows.features.items():
            if names := getattr(feature, "names", None):
                numbers = found[name].fillna(-1).astype(int)
                found[name] = pd.Categorical.from_codes(numbers, categories=list(names))
    else:
        wanted = "a pandas DataFrame or a Hugging Face datasets.Dataset"
        raise GradwireError(f"table is a {type(rows).__name__}; it must be {wanted}")
    found.columns = [str(name) for name in found.columns]
    twice = found.columns[found.columns.duplicated()]
    if len(twice):
        raise GradwireError(f"table has two columns {twice[0]!r}; rename one")
    if not len(found):
        raise GradwireError("table has no rows; at least one is needed in each split")
    return found


def both(rows: Any, test: Any = None) -> tuple[Any, Any]:
    """The rows of the training and of the test split, of rows that may be a mapping of both (a `DatasetDict`).

    Raises:
        GradwireError: a mapping that lacks a split.
    """
    if not isinstance(rows, Mapping):
        return rows, test
    if missing := [split for split in SPLITS if split not in rows]:
        raise GradwireError(f"table has the splits {', '.join(rows)} but no {missing[0]!r}; it needs both")
    train, test = (rows[split] for split in SPLITS)
    return train, test


def widened(rows: Any) -> tuple[Any, Mapping[str, tuple[str, ...]]]:
    """Rows with each column of lists of k numbers made k columns, `name[0]` …, and the names of these by its own.

    Raises:
        GradwireError: lists of several lengths, or of something else than numbers.
    """
    import pandas as pd

    parts, made = [], {}
    for name in rows.columns:
        if not isinstance(rows[name].iloc[0], list | tuple | np.ndarray):
            parts.append(rows[[name]])
            continue
        lengths = rows[name].map(lambda cell: len(cell) if isinstance(cell, list | tuple | np.ndarray) else -1)
        if (other := lengths != lengths.iloc[0]).any():
            row = other.idxmax()
            told = f"{max(lengths[row], 0)} entries in row {row} and {lengths.iloc[0]} in row {lengths.index[0]}"
            raise GradwireError(f"column {name!r} has {told}; lists must have one length")
        try:
            entries = np.stack([np.asarray(cell, np.float64) for cell in rows[name]])
        except (TypeError, ValueError):
            raise GradwireError(
                f"column {name!r} holds lists that are not of numbers; leave it out: drop={name}"
            ) from None
        if entries.ndim != 2:
            raise GradwireError(f"column {name!r} holds lists of lists; leave it out: drop={name}")
        made[name] = tuple(f"{name}[{place}]" for place in range(entries.shape[1]))
        parts.append(pd.DataFrame(entries, rows.index, columns=list(made[name])))
    return pd.concat(parts, axis=1), made


def _split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split, in the order of their names."""
    stems = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)
    return [path for path in stems if path.stem == split or path.stem.startswith(f"{split}-")]


def _joined(files: Iterable[Path]) -> Any:
    import pandas as pd

    return pd.concat([read_file(file) for file in files], ignore_index=True)
