"""A membership run's rows, one finding a cell: how well one attack, with one threshold, tells members from others."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.report.formats import NOTHING
from gradwire.report.rows import BASELINE, MEMBERSHIP_COLUMNS, Row, number, require
from gradwire.report.tables import Column, Table


class Interval(NamedTuple):
    """A figure with its interval, or, of several seeds, the mean with the sample standard deviation to both sides."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def bare(self) -> "Interval":
        """The figure without its interval."""
        return Interval(self.value, math.nan, math.nan, 1)

    def text(self, digits: int = 1, factor: float = 100) -> str:
        """As 55.1 (54.2–56.0), or 55.1 ± 0.9 for several seeds."""
        if math.isnan(self.value):
            return NOTHING
        value, low, high = (f"{factor * x:.{digits}f}" for x in self[:3])
        if self.seeds > 1:
            return f"{value} ± {factor * (self.high - self.value):.{digits}f}"
        return value if math.isnan(self.low) else f"{value} ({low}–{high})"


FIGURES = {
    "balanced_accuracy": ("low", "high"),
    "auc": ("auc_low", "auc_high"),
    "tpr_at_1e-2": ("tpr_at_1e-2_low", "tpr_at_1e-2_high"),
    "tpr_at_1e-3": ("tpr_at_1e-3_low", "tpr_at_1e-3_high"),
}
"""Figure → the columns of its interval."""
CLAIMED = "epsilon_claimed"
"""A column that a run may have: the ε that a scheme claims for its training."""


@dataclass(frozen=True)
class Finding:
    """One attack with one threshold on one scheme.

    Attributes:
        name: the scheme, after data and model where the run has several of them.
        scheme, attack, threshold: as the row has them. knowledge: "naive", "adaptive" or, for attacks on a model's
            answers, "".
        balanced_accuracy, auc, tpr_at_1e2, tpr_at_1e3: the figures.
        epsilon: a lower bound on ε, the mean over seeds; NaN where there is none. claimed: what the scheme claims.
        members, nonmembers: how many of each there are, over all targets; the mean over seeds.
        bytes_up: mean bytes that a client sent in a round. ratio: dense float32 bytes ÷ bytes up.
    """

    name: str
    scheme: str
    attack: str
    threshold: str
    knowledge: str
    balanced_accuracy: Interval
    auc: Interval
    tpr_at_1e2: Interval
    tpr_at_1e3: Interval
    epsilon: float
    claimed: float
    members: float
    nonmembers: float
    bytes_up: float
    ratio: float

    @property
    def plain(self) -> bool:
        """Whether nothing was done to the updates."""
        return self.scheme == BASELINE

    @property
    def by(self) -> str:
        """The attack, and what it knows where that is a question."""
        return f"{self.attack}, {self.knowledge}" if self.knowledge else self.attack


def findings(rows: Iterable[Row]) -> list[Finding]:
    """One finding per data, model, scheme, attack, knowledge and threshold, in order of appearance.

    Raises:
        GradwireError: a column is missing, or a figure is not one.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        require(row, MEMBERSHIP_COLUMNS, "a row of results")
        key = tuple(str(row[name]) for name in ("data", "model", "scheme", "attack", "threshold", "knowledge"))
        groups.setdefault(key, []).append(row)
    varying = [index for index in (0, 1) if len({key[index] for key in groups}) > 1]
    return [_finding(" · ".join([*(key[i] for i in varying), key[2]]), key, group) for key, group in groups.items()]


def membership_table(found: Sequence[Finding], brief: bool = False) -> Table:
    """Scheme, attack, threshold; balanced accuracy, AUC and the two TPRs with intervals; ε. The note says of how many.

    Args:
        found: what `findings` gives.
        brief: figures without intervals, and neither TPR at 1 % nor ε, so that the table fits a terminal of 80
            characters.
    """
    told = _brief if brief else _whole
    rows = tuple((f.name, f.by, f.threshold, *told(f).values()) for f in found)
    titles = ("scheme", "attack", "threshold", *(told(found[0]) if found else ()))
    columns = tuple(Column(title, numeric=index > 2) for index, title in enumerate(titles))
    return Table(columns, rows, "" if brief else _note(found))


def _whole(finding: Finding) -> dict[str, str]:
    """Column → figure with its interval. One in a thousand needs a second digit."""
    return {
        "bal. acc. %": finding.balanced_accuracy.text(),
        "AUC": finding.auc.text(3, factor=1),
        "TPR % at 1 %": finding.tpr_at_1e2.text(2),
        "at 0.1 %": finding.tpr_at_1e3.text(2),
        "ε ≥": _epsilon(finding),
    }


def _epsilon(finding: Finding) -> str:
    if math.isnan(finding.epsilon):
        return NOTHING
    return f"{finding.epsilon:.2f}" + ("" if math.isnan(finding.claimed) else f" of {finding.claimed:g}")


def _brief(finding: Finding) -> dict[str, str]:
    """Column → figure alone."""
    return {
        "bal. acc.": finding.balanced_accuracy.bare.text(),
        "AUC": finding.auc.bare.text(3, factor=1),
        "TPR at 0.1 %": finding.tpr_at_1e3.bare.text(2),
    }


def _note(found: Sequence[Finding]) -> str:
    counted = [_span([getattr(f, side) for f in found]) for side in ("members", "nonmembers")]
    over = f"Over {counted[0]} members and {counted[1]} other candidates of a row's targets."
    if any(finding.auc.seeds > 1 for finding in found):
        return f"{over} Means over seeds ± sample standard deviation."
    return f"{over} In brackets: intervals, Clopper–Pearson for rates, the bootstrap over examples for AUC."


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"


def _finding(name: str, key: Sequence[str], rows: Sequence[Row]) -> Finding:
    figures = {figure: _interval(rows, figure, *limits) for figure, limits in FIGURES.items()}
    _, _, scheme, attack, threshold, knowledge = key
    return Finding(
        name,
        scheme,
        attack,
        threshold,
        knowledge,
        balanced_accuracy=figures["balanced_accuracy"],
        auc=figures["auc"],
        tpr_at_1e2=figures["tpr_at_1e-2"],
        tpr_at_1e3=figures["tpr_at_1e-3"],
        epsilon=_mean(rows, "epsilon"),
        claimed=_mean(rows, CLAIMED) if CLAIMED in rows[0] else math.nan,
        members=_mean(rows, "members"),
        nonmembers=_mean(rows, "nonmembers"),
        bytes_up=_mean(rows, "bytes_up"),
        ratio=_mean(rows, "ratio"),
    )


def _mean(rows: Sequence[Row], column: str) -> float:
    return fmean(number(row, column) for row in rows)


def _interval(rows: Sequence[Row], figure: str, low: str, high: str) -> Interval:
    value = _mean(rows, figure)
    if len(rows) == 1:
        return Interval(value, number(rows[0], low), number(rows[0], high), 1)
    deviation = stdev(number(row, figure) for row in rows)
    return Interval(value, value - deviation, value + deviation, len(rows))
