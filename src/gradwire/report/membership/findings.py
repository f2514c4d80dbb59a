"""A membership run's rows, one finding a cell: how well one attack, with one threshold, tells members from others."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any, NamedTuple

from gradwire.errors import GradwireError
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
        finds: the figure at the lowest rate that is beyond chance over its whole table, in every seed; "" for none.
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
    finds: str

    @property
    def optimistic(self) -> bool:
        """Whether the threshold was chosen on the answers that it is judged by."""
        return self.threshold == "target"

    @property
    def audit(self) -> bool:
        """Whether the row is a bound on ε and no attack with a curve."""
        return self.epsilon == self.epsilon and self.auc.value != self.auc.value

    def at(self, figure: str) -> Interval:
        """The figure with this name in a row: auc, tpr_at_1e-2 or tpr_at_1e-3."""
        return {"auc": self.auc, "tpr_at_1e-2": self.tpr_at_1e2, "tpr_at_1e-3": self.tpr_at_1e3}[figure]

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

    `brief` leaves out intervals, TPR at 1 %, ε and rows whose threshold was chosen on the answers, so that the table
    fits 80 characters. `what`: what members are called, such as images or rows; "" where nobody says.
    """
    shown = [f for f in found if not (brief and f.optimistic)] or found
    rare = any(not math.isnan(f.tpr_at_1e3.value) for f in shown)
    lines = [{"scheme": f.name, "attack": f.by, "threshold": f.threshold, **_figures(f, brief, rare)} for f in shown]
    without = () if any(not math.isnan(f.epsilon) for f in shown) else ("ε ≥",)
    return Table.of(lines, ("scheme", "attack", "threshold", "finds"), "" if brief else _note(found, what), without)


def _figures(finding: Finding, brief: bool, rare: bool) -> dict[str, str]:
    """Heading → figure; `rare`: whether any row tells the TPR at 0.1 %, one member in a thousand."""
    if brief:
        return {
            "bal. acc.": finding.balanced_accuracy.text(brief=True),
            "AUC": finding.auc.text(3, factor=1, brief=True),
            **(
                {"at 0.1 %": finding.tpr_at_1e3.text(2, brief=True)}
                if rare
                else {"at 1 %": finding.tpr_at_1e2.text(2, brief=True)}
            ),
            "finds": _finds(finding),
        }
    claimed = "" if math.isnan(finding.claimed) else f" of {finding.claimed:g}"
    claimed += f" ({finding.adjacency})" if finding.adjacency else ""
    return {
        "bal. acc. %": finding.balanced_accuracy.text(),
        "AUC": finding.auc.text(3, factor=1),
        "TPR % at 1 %": finding.tpr_at_1e2.text(2),
        "at 0.1 %": finding.tpr_at_1e3.text(2),
        "finds": _finds(finding),
        "ε ≥": NOTHING if math.isnan(finding.epsilon) else f"{finding.epsilon:.2f}{claimed}",
    }


def _finds(finding: Finding) -> str:
    """Where a row is beyond chance: at which rate, or in the AUC alone."""
    return {"": NOTHING, "auc": "in AUC", "tpr_at_1e-2": "at 1 %", "tpr_at_1e-3": "at 0.1 %"}[finding.finds]


def _note(found: Sequence[Finding], what: str) -> str:
    counted = [_span([getattr(f, side) for f in found]) for side in ("members", "nonmembers")]
    each = f", which are {what}" if what else ""
    over = f"Over {counted[0]} members and {counted[1]} other candidates of a row's targets{each}."
    if any(finding.auc.seeds > 1 for finding in found):
        return f"{over} Means over seeds ± sample standard deviation."
    return (
        f"{over} In brackets: intervals that allow for other examples and models, and for the threshold's own chance."
    )


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
        finds=_weakest([str(row["finds"]) for row in rows]),
        claimed=mean(rows, "epsilon_claimed") if "epsilon_claimed" in rows[0] else math.nan,
        adjacency=str(rows[0].get("adjacency", "")),
        **others,
    )


def _weakest(finds: Sequence[str]) -> str:
    """What holds in every seed."""
    order = ("", "auc", "tpr_at_1e-2", "tpr_at_1e-3")
    for each in finds:
        if each not in order:
            raise GradwireError(f"column finds holds {each!r}; it should be one of {', '.join(order[1:])}, or empty")
    return min(finds, key=order.index)


def _interval(rows: Sequence[Row], figure: str, prefix: str) -> Interval:
    """The figure with its interval, which is in the columns `low` and `high` behind the prefix."""
    value = mean(rows, figure)
    if len(rows) == 1:
        return Interval(value, number(rows[0], f"{prefix}low"), number(rows[0], f"{prefix}high"), 1)
    deviation = stdev(number(row, figure) for row in rows)
    return Interval(value, value - deviation, value + deviation, len(rows))
