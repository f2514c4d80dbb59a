"""From the cells of a table to what a network takes: which columns are numbers and which categories, and their codes.

pandas' objects are called by their own types' names in docstrings and are `Any` to the type checker: pandas is imported
where it is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.tasks import Category, Columns, Number

FEW = 10
"""Whole numbers of so many different values or fewer are taken as categories, if each has `REPEATS` rows on average."""
REPEATS = 4
MANY = 100
"""Text of more different values, or of more than one for two rows, is taken as free text, which is refused."""
NUMBERS, CATEGORIES = "numbers", "categories"


def kind(column: Any) -> str:
    """Whether a column, a pandas Series, holds `NUMBERS` or `CATEGORIES`, by its type and its different values.

    Text, truth values and whole numbers of few different values are categories; other numbers are numbers. A pandas
    column of categories is what it says.

    Raises:
        GradwireError: an empty column, dates, free text, or numbers with text among them.
    """
    from pandas.api.types import infer_dtype  # type: ignore[import-untyped]

    name, known = column.name, column.dropna()
    if not len(known):
        raise GradwireError(f"column {name!r} is empty in every row; leave it out: drop={name}")
    held = infer_dtype(known)
    if held in ("categorical", "boolean"):
        return CATEGORIES
    if held in ("integer", "floating", "mixed-integer-float", "decimal"):
        whole = bool((known.astype(float) % 1 == 0).all())
        few = known.nunique() <= min(FEW, max(2, len(known) // REPEATS))
        return CATEGORIES if whole and few else NUMBERS
    plain = isinstance(known.iloc[0], str | int | float)
    if held not in ("string", "mixed-integer", "mixed") or not plain:
        hint = f"make numbers or text of it, or leave it out: drop={name}"
        raise GradwireError(f"column {name!r} holds values of type {type(known.iloc[0]).__name__}; {hint}")
    text = ~_numeric(known).notna()
    if 0 < text.sum() < len(known) / 2:
        raise _misplaced(column, text.idxmax())
    if (different := known.nunique()) > min(MANY, max(2, len(known) // 2)):
        hint = f"say categories={name}, or leave it out: drop={name}"
        raise GradwireError(f"column {name!r} holds free text ({different} different values in {len(known)}); {hint}")
    return CATEGORIES


def numbers(column: Any) -> Any:
    """The column as float64.

    Raises:
        GradwireError: text, nothing, or no finite number in a row, which is named.
    """
    _filled(column)
    found = _numeric(column).astype(float)
    if not (finite := np.isfinite(found)).all():
        raise _misplaced(column, (~finite).idxmax())
    return found


def words(column: Any) -> Any:
    """The column as text, whole numbers without a point.

    Raises:
        GradwireError: nothing in a row, which is named.
    """
    _filled(column)
    return column.map({value: _word(value) for value in column.unique()}).astype(object)


def values(column: Any) -> tuple[str, ...]:
    """What a column of categories can hold, as `words`: numbers by size, text by letters, or in the order declared."""
    if hasattr(column.dtype, "categories"):
        held = list(column.dtype.categories)
    else:
        held = list(column.unique())
        try:
            held.sort()
        except TypeError:
            held.sort(key=_word)
    return tuple(dict.fromkeys(map(_word, held)))


def codes(column: Any, known: Sequence[str], what: str = "column") -> NDArray[np.int64]:
    """Where in `known` each cell of a column of `words` stands.

    Raises:
        GradwireError: a value that is not known, named by its row.
    """
    place = {value: number for number, value in enumerate(known)}
    found = column.map(place)
    if (strange := found.isna()).any():
        row = strange.idxmax()
        raise GradwireError(
            f"{what} {column.name!r} has the unseen category {column[row]!r} in row {row} of the test split; the "
            "training split has no such row: leave the row out, or put one like it into the training split"
        )
    return np.array(found, np.int64)


@dataclass(frozen=True)
class Encoding:
    """How the rows of a table become inputs, fitted on the training split.

    Numbers are standardised by their mean and standard deviation, but columns of zeros and ones, which stay as they
    are; categories become one column a value. scikit-learn's ColumnTransformer does so.

    Attributes:
        domain: the fields: standardised numbers, zeros and ones, then categories.
        transformer: a DataFrame of `numbers` and `words` → float64 (N, F).
    """

    domain: Columns
    transformer: Any

    @classmethod
    def fit(cls, rows: Any, categories: Mapping[str, Sequence[str]]) -> "Encoding":
        """The encoding of training rows, a DataFrame of `numbers` and `words`.

        Args:
            categories: name → what it can hold; the other columns are numbers.

        Raises:
            GradwireError: a column that is the same in every row.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        for name in rows.columns:
            if rows[name].nunique() < 2:
                held = f"{_word(rows[name].iloc[0])!r} in every row of the training split"
                raise GradwireError(f"column {name!r} is constant, {held}; leave it out: drop={name}")
        measured = [name for name in rows.columns if name not in categories]
        bits = [name for name in measured if set(rows[name].unique()) == {0.0, 1.0}]
        scaled = [name for name in measured if name not in bits]
        one_hot = OneHotEncoder(categories=[list(known) for known in categories.values()], sparse_output=False)
        parts = [("scaled", StandardScaler(), scaled), ("bits", "passthrough", bits)]
        parts += [("categories", one_hot, list(categories))]
        transformer = ColumnTransformer([part for part in parts if part[2]]).fit(rows)
        scaler = transformer.named_transformers_.get("scaled")
        scales = dict(zip(scaled, zip(scaler.mean_, scaler.scale_, strict=True), strict=True)) if scaler else {}
        fields = tuple(_number(rows[name], *map(float, scales.get(name, (0, 1)))) for name in (*scaled, *bits))
        groups = tuple(Category(n, tuple(known), str(rows[n].mode()[0])) for n, known in categories.items())
        domain = Columns(fields, groups)
        right = domain.agreement(domain.uninformed(), cls(domain, transformer).encode(rows))
        return cls(replace(domain, guessed=float(right.double().mean())), transformer)

    def encode(self, rows: Any) -> Tensor:
        """Rows, a DataFrame of `numbers` and `words`, as float32 (N, F).

        Raises:
            GradwireError: a category that the training split has not.
        """
        for field in self.domain.categories:
            codes(rows[field.name], field.values)
        return torch.from_numpy(self.transformer.transform(rows).astype(np.float32))


def _number(column: Any, mean: float, std: float) -> Number:
    """The field that a column of numbers is."""
    whole = bool((column % 1 == 0).all())
    name, low, high, usual = str(column.name), *map(float, (column.min(), column.max(), column.median()))
    # Between as many zeros as ones there is no median that a cell can hold.
    return Number(name, mean, std, low, high, float(np.floor(usual)) if whole else usual, whole)


def _numeric(column: Any) -> Any:
    """The column as numbers, NaN where a cell is none."""
    import pandas as pd  # type: ignore[import-untyped]

    plain = column if pd.api.types.is_numeric_dtype(column) else column.astype(object)
    return pd.to_numeric(plain, errors="coerce")


def _filled(column: Any) -> None:
    """Refuse a column with nothing in a row."""
    if (missing := column.isna()).any():
        hint = f"fill it in, leave the row out, or leave the column out: drop={column.name}"
        raise GradwireError(f"column {column.name!r} has no value (NaN) in row {missing.idxmax()}; {hint}")


def _misplaced(column: Any, row: Any) -> GradwireError:
    held = f"column {column.name!r} of numbers holds {column[row]!r} in row {row}"
    return GradwireError(f"{held}; correct it, or say categories={column.name} or drop={column.name}")


def _word(value: Any) -> str:
    number = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if number else str(value)
