"""A membership run's rows, one finding a cell: how well one attack, with one threshold, tells members from others."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any, NamedTuple

from gradwire.report.formats import NOTHING
from gradwire.report.rows import BASELINE, MEMBERSHIP_COLUMNS, Row, by_scheme, mean, number
from gradwire.report.tables import Table


class Interval(NamedTuple):
    """A figure with its interval; of several seeds, the mean with one sample standard deviation to both sides."""

    value: float
    low: float
    high: float
    seeds: int

    def text(self, digits: int = 1, factor: float = 100, brief: bool = False) -> str:
        """As 55.1 (54.2–56.0), or 55.1 ± 0.9 for several seeds; 55.1 if `brief`."""
        if math.isnan(self.value):
            return NOTHING
        value, low, high = (f"{factor * x:.{digits}f}" for x in self[:3])
        spread = f" ({low}–{high})" if self.seeds == 1 else f" ± {factor * (self.high - self.value):.{digits}f}"
        return value if brief or math.isnan(self.low) else value + spread


@dataclass(frozen=True)
class Finding:
    """One attack with one threshold on one scheme.

    Attributes:
        name: the scheme, after data and model where the run has several of them.
        scheme, attack, threshold, knowledge: as the rows have them.
        epsilon: a lower bound on ε, the mean over seeds; NaN where there is none.
        claimed: the ε that the scheme claims; NaN where rows have no column `epsilon_claimed`.
        adjacency: the neighbours that both are about; "" where rows do not say.
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
    adjacency: str
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
        """The attack, and its knowledge where it has one."""
        return f"{self.attack}, {self.knowledge}" if self.knowledge else self.attack


def findings(rows: Iterable[Row]) -> list[Finding]:
    """One finding per data, model, scheme, attack, threshold, knowledge; `GradwireError` for a bad column or cell."""
    others = ("attack", "threshold", "knowledge")
    return [_finding(name, group) for name, group in by_scheme(rows, MEMBERSHIP_COLUMNS, *others)]


def membership_table(found: Sequence[Finding], brief: bool = False, what: str = "") -> Table:
    """Scheme, attack, threshold; balanced accuracy, AUC and the two TPRs with intervals; ε. The note says of how many.

    `brief` leaves out intervals, TPR at 1 % and ε, so that the table fits 80 characters. `what`: what members are
    called, such as images or rows; "" where nobody says.
    """
    lines = [{"scheme": f.name, "attack": f.by, "threshold": f.threshold, **_figures(f, brief)} for f in found]
    return Table.of(lines, ("scheme", "attack", "threshold"), "" if brief else _note(found, what))


def _figures(finding: Finding, brief: bool) -> dict[str, str]:
    """Heading → figure. One member in a thousand needs a second digit."""
    if brief:
        return {
            "bal. acc.": finding.balanced_accuracy.text(brief=True),
            "AUC": finding.auc.text(3, factor=1, brief=True),
            "TPR at 0.1 %": finding.tpr_at_1e3.text(2, brief=True),
        }
    claimed = "" if math.isnan(finding.claimed) else f" of {finding.claimed:g}"
    claimed += f" ({finding.adjacency})" if finding.adjacency else ""
    return {
        "bal. acc. %": finding.balanced_accuracy.text(),
        "AUC": finding.auc.text(3, factor=1),
        "TPR % at 1 %": finding.tpr_at_1e2.text(2),
        "at 0.1 %": finding.tpr_at_1e3.text(2),
        "ε ≥": NOTHING if math.isnan(finding.epsilon) else f"{finding.epsilon:.2f}{claimed}",
    }


def _note(found: Sequence[Finding], what: str) -> str:
    counted = [_span([getattr(f, side) for f in found]) for side in ("members", "nonmembers")]
    each = f", which are {what}" if what else ""
    over = f"Over {counted[0]} members and {counted[1]} other candidates of a row's targets{each}."
    if any(finding.auc.seeds > 1 for finding in found):
        return f"{over} Means over seeds ± sample standard deviation."
    return f"{over} In brackets: intervals, Clopper–Pearson for rates, the bootstrap over examples for AUC."


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"


def _finding(name: str, rows: Sequence[Row]) -> Finding:
    others: dict[str, Any] = {column: str(rows[0][column]) for column in ("scheme", "attack", "threshold", "knowledge")}
    others |= {column: mean(rows, column) for column in ("epsilon", "members", "nonmembers", "bytes_up", "ratio")}
    return Finding(
        name,
        balanced_accuracy=_interval(rows, "balanced_accuracy", ""),
        auc=_interval(rows, "auc", "auc_"),
        tpr_at_1e2=_interval(rows, "tpr_at_1e-2", "tpr_at_1e-2_"),
        tpr_at_1e3=_interval(rows, "tpr_at_1e-3", "tpr_at_1e-3_"),
        claimed=mean(rows, "epsilon_claimed") if "epsilon_claimed" in rows[0] else math.nan,
        adjacency=str(rows[0].get("adjacency", "")),
        **others,
    )


def _interval(rows: Sequence[Row], figure: str, prefix: str) -> Interval:
    """The figure with its interval, which is in the columns `low` and `high` behind the prefix."""
    value = mean(rows, figure)
    if len(rows) == 1:
        return Interval(value, number(rows[0], f"{prefix}low"), number(rows[0], f"{prefix}high"), 1)
    deviation = stdev(number(row, figure) for row in rows)
    return Interval(value, value - deviation, value + deviation, len(rows))
