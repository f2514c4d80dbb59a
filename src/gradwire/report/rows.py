"""Rows of a `results.csv`: the columns a command writes, and how a cell is read."""

from collections.abc import Iterable

from gradwire.errors import GradwireError
from gradwire.runs import Row

_COMMON = ("data", "model", "scheme", "seed", "device", "seconds", "bytes_up", "bytes_down", "ratio")
AUDIT_COLUMNS = (
    *_COMMON,
    *("mode", "attack", "knowledge", "adversary", "victim", "batch", "iterations"),
    *("objective", "mse", "psnr", "ssim", "success"),
)
TRAIN_COLUMNS = (*_COMMON, "round", "epoch", "train_loss", "test_loss", "test_accuracy")
NETWORK_COLUMNS = (
    *("data", "model", "scheme", "seed", "device", "seconds", "workers", "batch", "source", "rate"),
    *("compute", "coding", "bytes", "messages", "latency"),
)
SPEED_COLUMNS = (
    *("data", "model", "seed", "device", "mode", "iterations"),
    *("way", "precision", "victims", "milliseconds", "objective", "ratio"),
)
COST_COLUMNS = (
    *("what", "by", "clients", "entries", "bits"),
    *("seconds_client", "seconds_server", "bytes_up", "how"),
)
MEMBERSHIP_COLUMNS = (
    *_COMMON,
    *("attack", "threshold", "knowledge", "balanced_accuracy", "auc", "tpr_at_1e-2", "tpr_at_1e-3", "low", "high"),
    *("members", "nonmembers", "auc_low", "auc_high", "tpr_at_1e-2_low", "tpr_at_1e-2_high"),
    *("tpr_at_1e-3_low", "tpr_at_1e-3_high", "epsilon"),
)
"""`low` and `high` are the interval of the balanced accuracy; `knowledge` is empty for attacks on a model's answers."""

BASELINE = "none"
"""The scheme that others are held against: plain SGD."""
_YES, _NO = ("true", "1", "1.0"), ("false", "0", "0.0")


def require(columns: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Raise `GradwireError`, naming the missing ones, unless all `wanted` columns are there."""
    present = set(columns)
    if missing := [column for column in wanted if column not in present]:
        raise GradwireError(f"{where} lacks the columns {', '.join(missing)}")


def number(row: Row, column: str) -> float:
    """The value of a numeric cell; an empty cell is NaN (not measured).

    Raises:
        GradwireError: the cell holds something else.
    """
    value = row[column]
    if value in (None, ""):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise GradwireError(f"column {column}{_of(row)} holds {value!r}; it should be a number") from None


def yes(row: Row, column: str) -> bool:
    """The value of a yes-or-no cell, written as True, False, 1 or 0.

    Raises:
        GradwireError: the cell holds something else.
    """
    text = str(row[column]).strip().lower()
    if text not in _YES + _NO:
        raise GradwireError(f"column {column}{_of(row)} holds {row[column]!r}; it should be True or False")
    return text in _YES


def _of(row: Row) -> str:
    """Which row it is, where it has a scheme to be called by."""
    return f" of {row['scheme']}" if "scheme" in row else ""
