"""Tables by name: two at hand in `$GRADWIRE_DATA`, and two that come with scikit-learn."""

import os
from pathlib import Path

from gradwire.data.dataset import Dataset
from gradwire.data.hub import ROOT_VARIABLE
from gradwire.data.tables import TableSource, at_path, split_names
from gradwire.errors import GradwireError


def adult(split: str, limit: int | None = None, target: str = "income", drop: str = "") -> Dataset:
    """The census income data (Becker and Kohavi 1996), 14 fields; income, at most 50,000 dollars or more, is told.

    `$GRADWIRE_DATA/adult/{train,test}-*.parquet` is read. Its column `label`, the income as a number, is left out.
    """
    return _at_hand("adult", split, limit, target=split_names(target), drop=("label", *split_names(drop)))


def location30(split: str, limit: int | None = None) -> Dataset:
    """Places that users of Foursquare have been to or not, 446 zeros and ones, in 30 clusters (Shokri et al. 2017).

    `$GRADWIRE_DATA/location30/{train,test}-*.parquet` is read. Each bit is one column, a number from 0 to 1: as a
    category it would be two, with nothing more in them. A search stays within [0, 1], and a guess is rounded, so that
    it is right where it is equal.
    """
    return _at_hand("location30", split, limit, target=("label",), categories=("label",))


def diabetes(split: str, limit: int | None = None, target: str = "target", drop: str = "") -> Dataset:
    """442 patients' ten fields and how their diabetes had progressed a year later (Efron et al. 2004), a number."""
    from sklearn.datasets import load_diabetes

    rows = load_diabetes(as_frame=True, scaled=False).frame
    return TableSource("diabetes", rows, None, split_names(target), drop=split_names(drop))(split, limit)


def linnerud(split: str, limit: int | None = None, target: str = "Weight|Waist|Pulse", drop: str = "") -> Dataset:
    """Three exercises of twenty men (Linnerud), by which weight, waist and pulse are told: three numbers."""
    from sklearn.datasets import load_linnerud

    rows, left_out = load_linnerud(as_frame=True).frame, split_names(drop)
    # Of so few rows, no number looks like one.
    numbers = tuple(name for name in rows.columns if name not in left_out)
    return TableSource("linnerud", rows, None, split_names(target), numbers, drop=left_out)(split, limit)


def _at_hand(name: str, split: str, limit: int | None, **columns: tuple[str, ...]) -> Dataset:
    """A split of the table in `$GRADWIRE_DATA/NAME`."""
    folder = Path(os.environ.get(ROOT_VARIABLE, "")) / name
    if not os.environ.get(ROOT_VARIABLE) or not folder.is_dir():
        wanted = f"a folder that holds {name}/{{train,test}}-*.parquet"
        raise GradwireError(f"data {name!r} are not at hand; set {ROOT_VARIABLE} to {wanted}")
    return at_path(name, folder, **columns)(split, limit)
