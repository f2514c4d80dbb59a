"""What protection costs: each scheme's accuracy after training beside what its first update gave away.

Rows of training and of audits are joined by their label: a study gives an audit the label of the training that it
belongs to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradwire.report.audit.summary import KNOWLEDGE, summarise
from gradwire.report.domain import PIXELS, RunDomain
from gradwire.report.figures import LIGHT, MARKERS, Axes, Figure, Theme, handle, legend, panels, ticks
from gradwire.report.formats import NOTHING, times
from gradwire.report.measures import words
from gradwire.report.rows import Row, group_by
from gradwire.report.tables import Table
from gradwire.report.training import follow


@dataclass(frozen=True)
class Protection:
    """One scheme in one training.

    Attributes:
        name: the label of its rows.
        domain: of what was audited; measure: what the training reports of its task.
        accuracy: that measure after training, a mean over seeds. accuracy_std: None for one seed.
        ratio: dense float32 bytes ÷ bytes up, of all rounds.
        leaked: the leading score by knowledge, "naive" and "adaptive", under the attack that does better.
    """

    name: str
    domain: RunDomain
    measure: str
    accuracy: float
    accuracy_std: float | None
    ratio: float
    leaked: Mapping[str, float]

    @property
    def parts(self) -> tuple[str, str]:
        """Group and scheme of a name "group: scheme"."""
        group, _, scheme = self.name.rpartition(": ")
        return group, scheme


def protections(training: Sequence[Row], audits: Sequence[Row], domain: RunDomain = PIXELS) -> list[Protection]:
    """The trainings that were audited, in their order. Rows have a "label"; audits are of one domain."""
    leaked: dict[str, dict[str, float]] = {}
    for summary in summarise([{**row, "scheme": row["label"]} for row in audits], domain):
        best = leaked.setdefault(summary.scheme, {})
        best[summary.knowledge] = domain.best([summary.score, best.get(summary.knowledge, summary.score)])
    found = []
    for label, rows in group_by(training, (), lambda row: str(row["label"])).items():
        if label in leaked:
            (series,) = follow([{**row, "scheme": label} for row in rows])
            last = series.points[-1]
            reached = (series.measure, last.measured, series.measured_std, last.ratio)
            found.append(Protection(label, domain, *reached, leaked[label]))
    return found


def protection_table(found: Sequence[Protection]) -> Table:
    """Ratio, accuracy (or what else the task reports) and leakage, a row each."""
    domain, named = found[0].domain, words(found[0].measure)
    title = named.title.removeprefix("test ")
    lines = [
        {
            "scheme": each.name,
            "ratio": times(each.ratio),
            title: named.text(each.accuracy, each.accuracy_std),
            **{
                f"{k} {domain.words.title}": domain.says(each.leaked[k]) if k in each.leaked else NOTHING
                for k in KNOWLEDGE
            },
        }
        for each in found
    ]
    note = f"{title.capitalize()} after training; {domain.words.title} of what was reconstructed of the audited update."
    return Table.of(lines, ("scheme",), note)


def protection_figure(found: Sequence[Protection], theme: Theme = LIGHT) -> Figure:
    """Two panels: accuracy against ratio, and against the leading score, hollow for the naive adversary, filled else.

    Schemes are told apart by colour, groups by marker. All were measured alike.
    """
    figure, (cost, leak) = panels(theme, 1, 2, 5.6, 4.4)
    groups, schemes = (list(dict.fromkeys(each.parts[i] for each in found)) for i in range(2))
    laps = -(-len(schemes) // len(theme.lines))
    looks: dict[str, tuple[str, str]] = {}  # of each scheme, in the first group that has it
    for each in found:
        group, scheme = each.parts
        lap, index = divmod(schemes.index(scheme), len(theme.lines))
        color, marker = theme.lines[index], MARKERS[(groups.index(group) * laps + lap) % len(MARKERS)]
        looks.setdefault(scheme, (color, marker))
        _dot(cost, each.ratio, each, theme, color, marker)
        if len(each.leaked) == 2:
            ends = [each.leaked["naive"], each.leaked["adaptive"]]
            leak.plot(ends, [words(each.measure).factor * each.accuracy] * 2, color=color, linewidth=1, alpha=0.6)
        for knowledge, score in each.leaked.items():
            _dot(leak, score, each, theme, color, marker, hollow=knowledge == "naive")
    cost.set(xscale="log", xlabel="times fewer bytes sent than without a scheme (log scale)")
    cost.set_ylabel(words(found[0].measure).caption)
    ticks(cost.xaxis, times)
    domain = found[0].domain
    noun = "SSIM with the private image" if domain.pictures else domain.words.noun
    leak.set(xlabel=f"{noun}: hollow naive, filled adaptive")
    if domain.words.share:
        leak.set_xlim(-0.05, 1.05)
    shown = [*looks.items()]
    if len(groups) > 1:
        if laps == 1:
            shown = [(scheme, (color, "o")) for scheme, (color, _) in shown]
        shown += [(group, (theme.ink, MARKERS[i * laps % len(MARKERS)])) for i, group in enumerate(groups)]
    handles = [handle(name, linestyle="none", marker=marker, color=color) for name, (color, marker) in shown]
    legend(cost, theme, handles=handles, loc="best")
    return figure


def _dot(ax: Axes, x: float, each: Protection, theme: Theme, color: str, marker: str, *, hollow: bool = False) -> None:
    style: dict[str, Any] = {"markeredgecolor": color, "markerfacecolor": theme.paper if hollow else color}
    ax.plot(
        [x],
        [words(each.measure).factor * each.accuracy],
        linestyle="none",
        marker=marker,
        markersize=7,
        zorder=3,
        **style,
    )
