"""Rows of a `results.csv`: the columns that a command writes, how a cell is read, and which rows belong together."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean
from typing import Literal, TypeVar

from gradwire.errors import GradwireError
from gradwire.runs import Row

Key = TypeVar("Key", bound=Hashable)
_COMMON = ("data", "model", "scheme", "seed", "device", "seconds", "bytes_up", "bytes_down", "ratio")
_ATTACK = ("attack", "knowledge", "adversary", "victim", "batch", "iterations", "objective")
AUDIT_FACTS = (*_COMMON, *_ATTACK, "success")
"""What every audit has, whatever it attacks; the scores of its domain come on top."""
AUDIT_COLUMNS = (*_COMMON, "mode", *_ATTACK, "mse", "psnr", "ssim", "success")
"""An audit's of images."""
TRAIN_FACTS = (*_COMMON, "round", "epoch", "train_loss", "test_loss")
"""What every training has; the measures of its task come on top, each as `test_<measure>`."""
TRAIN_COLUMNS = (*TRAIN_FACTS, "test_accuracy")
"""A training's whose task reports accuracy."""
NETWORK_COLUMNS = (
    *("data", "model", "scheme", "seed", "device", "seconds", "workers", "batch", "source", "rate"),
    *("compute", "coding", "bytes", "messages", "latency"),
)
SPEED_COLUMNS = (
    *("data", "model", "seed", "device", "mode", "iterations"),
    *("way", "precision", "victims", "milliseconds", "objective", "ratio"),
)
COST_COLUMNS = (*("what", "by", "clients", "entries", "bits"), *("seconds_client", "seconds_server", "bytes_up", "how"))
LIES_COLUMNS = (
    *("data", "model", "seed", "batch", "scheme", "clients", "colluders"),
    *("lie", "what", "correlation", "succeeds", "outcome"),
)
MEMBERSHIP_COLUMNS = (
    *_COMMON,
    *("attack", "threshold", "knowledge", "balanced_accuracy", "auc", "tpr_at_1e-2", "tpr_at_1e-3", "low", "high"),
    *("members", "nonmembers", "auc_low", "auc_high", "tpr_at_1e-2_low", "tpr_at_1e-2_high"),
    *("tpr_at_1e-3_low", "tpr_at_1e-3_high", "epsilon", "finds", "p"),
)
"""`low` and `high` are the interval of the balanced accuracy; `knowledge` is empty for attacks on a model's answers;
`finds` names the figure at the lowest rate that is beyond chance over the whole table, and `p` is its p-value there."""
EPSILON_COLUMNS = (
    *_COMMON,
    *("rounds", "canary", "adjacency", "canaries", "right", "confidence", "delta"),
    *("epsilon", "epsilon_any", "epsilon_claimed"),
)
"""`epsilon` is a lower bound for mechanisms of Gaussian noise, `epsilon_any` for all."""
ADVISE_COLUMNS = (
    *_COMMON,
    *("state", "why", "front", "rung", "rounds", "lr", "test_accuracy", "accuracy_low", "accuracy_high", "cost"),
    *("victims", "given", "low", "high", "worst", "score", "knowledge", "told", "doubts", "summed"),
    *("epsilon", "delta", "guarantee"),
)
"""`seconds` are of a client's step, `cost` its bytes both ways, or its time over the link; `low` and `high` are the
interval of the share of victims given away; `told`: whether attacks that failed could have succeeded; `summed`: how
many clients' updates the server sees as one."""
RECORDED_COLUMNS = (*_COMMON, "mode", *_ATTACK, "labels")
"""An audit's of a recorded round of which nobody told the truth."""
Kind = Literal[
    "advise", "epsilon", "study", "network", "speed", "cost", "lies", "membership", "train", "audit", "recorded"
]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "advise": ADVISE_COLUMNS,
    "epsilon": EPSILON_COLUMNS,
    "study": ("command", "label"),
    "network": NETWORK_COLUMNS,
    "speed": SPEED_COLUMNS,
    "cost": COST_COLUMNS,
    "lies": LIES_COLUMNS,
    "membership": MEMBERSHIP_COLUMNS,
    "train": TRAIN_FACTS,
    "audit": AUDIT_FACTS,
    "recorded": RECORDED_COLUMNS,
}
"""Kind of run → the columns that its rows must have."""

BASELINE = "none"
"""The scheme that others are compared with: plain SGD."""
AS_GIVEN = "as given"
"""In the scheme's place, where a model was trained by somebody else, nobody says how."""
_YES, _NO = ("true", "1", "1.0"), ("false", "0", "0.0")


def require(columns: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Raise `GradwireError`, naming the missing ones, unless all `wanted` columns are there."""
    present = set(columns)
    if missing := [column for column in wanted if column not in present]:
        raise GradwireError(f"{where} lacks the columns {', '.join(missing)}")


def number(row: Row, column: str) -> float:
    """The value of a numeric cell, NaN for an empty one (not measured); `GradwireError` for anything else."""
    value = row[column]
    if value in (None, ""):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise GradwireError(f"column {column}{_of(row)} holds {value!r}; it should be a number") from None


def mean(rows: Iterable[Row], column: str) -> float:
    """The mean of a numeric column."""
    return fmean(number(row, column) for row in rows)


def yes(row: Row, column: str) -> bool:
    """The value of a cell that holds True, False, 1 or 0; `GradwireError` for anything else."""
    text = str(row[column]).strip().lower()
    if text not in _YES + _NO:
        raise GradwireError(f"column {column}{_of(row)} holds {row[column]!r}; it should be True or False")
    return text in _YES


def group_by(rows: Iterable[Row], columns: Sequence[str], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Key → its rows, in order of appearance; `GradwireError` for a row that lacks some of the `columns`."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        require(row, columns, "a row of results")
        groups.setdefault(key(row), []).append(row)
    return groups


def by_scheme(rows: Iterable[Row], columns: Sequence[str], *others: str) -> list[tuple[str, list[Row]]]:
    """Groups of rows that share data, model, scheme and the `others`; `GradwireError` as in `group_by`.

    A group's name is the scheme, after data and model where these differ between groups.
    """
    keys = ("data", "model", "scheme", *others)
    groups = group_by(rows, columns, lambda row: tuple(str(row[key]) for key in keys))
    varying = [index for index in (0, 1) if len({key[index] for key in groups}) > 1]
    return [(" · ".join([*(key[i] for i in varying), key[2]]), group) for key, group in groups.items()]


def _of(row: Row) -> str:
    """The row's scheme, where it has one."""
    return f" of {row['scheme']}" if "scheme" in row else ""
