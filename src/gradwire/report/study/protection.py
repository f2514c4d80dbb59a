"""What protection costs: each scheme's accuracy after training beside what its first update gave away.

Rows of training and of audits are joined by their label, so that a study that files an audit beside the training that
it belongs to has both in one figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradwire.report.audit.summary import Summary, pair, summarise
from gradwire.report.figures import LIGHT, MARKERS, Theme, legend, panels, plain
from gradwire.report.formats import NOTHING, spread, times
from gradwire.report.rows import Row
from gradwire.report.tables import Column, Table
from gradwire.report.training.series import Series, follow


@dataclass(frozen=True)
class Protection:
    """One scheme in one training.

    Attributes:
        name: what it is filed under.
        accuracy: after training, a mean over seeds; `accuracy_std`, None for one seed.
        ratio: dense float32 bytes ÷ bytes up, of all rounds.
        leaked: SSIM of the reconstructions by knowledge, "naive" and "adaptive", under the attack that does better.
    """

    name: str
    accuracy: float
    accuracy_std: float | None
    ratio: float
    leaked: Mapping[str, float]


def protections(training: Sequence[Row], audits: Sequence[Row]) -> list[Protection]:
    """Those trainings that an audit was filed beside, in their order. Rows have a "label"."""
    leaked: dict[str, dict[str, float]] = {}
    for found in pair(summarise([{**row, "scheme": row["label"]} for row in audits])):
        for summary in found.present:
            _keep(leaked.setdefault(found.scheme, {}), summary)
    trained: dict[str, Series] = {}
    for label in dict.fromkeys(str(row["label"]) for row in training):
        (trained[label],) = follow([{**row, "scheme": label} for row in training if row["label"] == label])
    return [
        Protection(label, series.points[-1].test_accuracy, series.accuracy_std, series.points[-1].ratio, leaked[label])
        for label, series in trained.items()
        if label in leaked
    ]


def _keep(found: dict[str, float], summary: Summary) -> None:
    found[summary.knowledge] = max(summary.ssim, found.get(summary.knowledge, summary.ssim))


def protection_table(found: Sequence[Protection]) -> Table:
    """Ratio, accuracy and leakage, a row each."""
    columns = (Column("scheme", numeric=False), *map(Column, ("ratio", "accuracy", "naive SSIM", "adaptive SSIM")))
    rows = tuple(
        (
            each.name,
            times(each.ratio),
            f"{spread(100 * each.accuracy, each.accuracy_std and 100 * each.accuracy_std, digits=1)} %",
            *(spread(each.leaked[k], None) if k in each.leaked else NOTHING for k in ("naive", "adaptive")),
        )
        for each in found
    )
    return Table(columns, rows, note="Accuracy after training; SSIM of what was reconstructed of the audited update.")


def protection_figure(found: Sequence[Protection], theme: Theme = LIGHT) -> Figure:
    """Two panels: accuracy against ratio, and against SSIM, hollow for the naive adversary, filled for the adaptive.

    A name is "group: scheme"; schemes are told apart by colour, groups by marker.
    """
    figure, (cost, leak) = panels(theme, 1, 2, 5.6, 4.4)
    groups, schemes = (list(dict.fromkeys(_parts(each.name)[i] for each in found)) for i in range(2))
    laps = -(-len(schemes) // len(theme.lines))
    looks: dict[str, tuple[str, str]] = {}
    for each in found:
        group, scheme = _parts(each.name)
        lap, index = divmod(schemes.index(scheme), len(theme.lines))
        color, marker = theme.lines[index], MARKERS[(groups.index(group) * laps + lap) % len(MARKERS)]
        looks[each.name] = color, marker
        _dot(cost, each.ratio, each, theme, color, marker)
        if len(each.leaked) == 2:
            ends = [each.leaked["naive"], each.leaked["adaptive"]]
            leak.plot(ends, [100 * each.accuracy] * 2, color=color, linewidth=1, alpha=0.6)
        for knowledge, ssim in each.leaked.items():
            _dot(leak, ssim, each, theme, color, marker, hollow=knowledge == "naive")
    cost.set_xscale("log")
    cost.xaxis.set_major_formatter(FuncFormatter(lambda value, _: times(value)))
    cost.xaxis.set_minor_formatter(NullFormatter())
    cost.set_xlabel("times fewer bytes sent than without a scheme (log scale)")
    leak.set_xlabel("SSIM with the private image: hollow naive, filled adaptive")
    leak.set_xlim(-0.05, 1.05)
    cost.set_ylabel("test accuracy in per cent")
    legend(cost, theme, handles=_handles(looks, groups, laps, theme), loc="best")
    return figure


def _parts(name: str) -> tuple[str, str]:
    """Group and scheme of a name."""
    group, _, scheme = name.rpartition(": ")
    return group, scheme


def _handles(looks: Mapping[str, tuple[str, str]], groups: Sequence[str], laps: int, theme: Theme) -> Sequence[Line2D]:
    """A legend's lines: schemes, as they look in the first group that has them, and groups where there are several."""
    schemes: dict[str, tuple[str, str]] = {}
    for name, look in looks.items():
        schemes.setdefault(_parts(name)[1], look)
    told = [*schemes.items()]
    if len(groups) > 1:
        if laps == 1:
            told = [(scheme, (color, "o")) for scheme, (color, _) in told]
        told += [(group, (theme.ink, MARKERS[i * laps % len(MARKERS)])) for i, group in enumerate(groups)]
    return [
        Line2D([], [], linestyle="none", marker=marker, color=color, label=plain(name))
        for name, (color, marker) in told
    ]


def _dot(ax: Axes, x: float, each: Protection, theme: Theme, color: str, marker: str, *, hollow: bool = False) -> None:
    ax.plot(
        [x],
        [100 * each.accuracy],
        linestyle="none",
        marker=marker,
        markersize=7,
        markeredgecolor=color,
        markerfacecolor=theme.paper if hollow else color,
        zorder=3,
    )
