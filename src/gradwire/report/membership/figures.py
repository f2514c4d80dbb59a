"""Curves of members found against non-members suspected, on logarithmic axes: an average hides the few who are sure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from gradwire.report.figures import LIGHT, MARKERS, Theme, legend, panels, plain
from gradwire.report.membership.findings import Finding

_STROKES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))


def tradeoff_figure(curves: Mapping[str, Tensor], found: Sequence[Finding], theme: Theme = LIGHT) -> Figure:
    """One panel a scheme, one line an attack; guessing is the diagonal.

    Args:
        curves: shares of non-members and of members, (2, P), for "<scheme>|<attack>|<knowledge>".
        found: what the curves belong to: what it lacks is not drawn.
    """
    names = {(f.scheme, f.by): f"{f.scheme}|{f.attack}|{f.knowledge}" for f in found}
    drawn = {key: curves[name] for key, name in names.items() if name in curves}
    schemes, attacks = (list(dict.fromkeys(key[index] for key in drawn)) for index in (0, 1))
    columns = min(2, len(schemes)) or 1
    width = 7.4 if columns == 1 else 5.6
    figure, axes = panels(theme, math.ceil(len(schemes) / columns) or 1, columns, width, 4.6)
    # Zero has no place on a logarithmic axis: the left edge stands for less than one non-member.
    edge = 0.5 / max((f.nonmembers for f in found), default=1)
    for ax in axes[len(schemes) :]:
        ax.set_visible(False)
    for ax, scheme in zip(axes, schemes, strict=False):
        for index, attack in enumerate(attacks):
            if (scheme, attack) in drawn:
                _line(ax, drawn[scheme, attack].clamp_min(edge), index, attack, theme)
        _dress(ax, edge, theme)
        ax.set_title(plain(scheme), fontsize="medium", color=theme.ink)
    if schemes:
        legend(axes[0], theme, loc="lower right")
    return figure


def accuracy_figure(found: Sequence[Finding], theme: Theme = LIGHT) -> Figure:
    """Balanced accuracy of every attack on every scheme, with its interval; thresholds chosen on a shadow model."""
    found = [finding for finding in found if finding.threshold == "shadow"]
    names = list(dict.fromkeys(finding.name for finding in found))
    attacks = list(dict.fromkeys(finding.by for finding in found))
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=1.2 + 0.28 * len(names))
    for index, attack in enumerate(attacks):
        shown = [finding for finding in found if finding.by == attack]
        # Side by side, so that intervals do not hide each other.
        places = [names.index(f.name) + 0.6 * ((index + 0.5) / len(attacks) - 0.5) for f in shown]
        figures = [f.balanced_accuracy for f in shown]
        off = [[100 * (f.value - f.low) for f in figures], [100 * (f.high - f.value) for f in figures]]
        ax.errorbar(
            [100 * f.value for f in figures],
            places,
            xerr=off,
            color=theme.lines[index % len(theme.lines)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linewidth=1,
            linestyle="none",
            label=plain(attack),
        )
    ax.axvline(50, color=theme.ink, linewidth=0.9, linestyle=":", zorder=1.5)
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("balanced accuracy, %; the dotted line is guessing")
    if attacks:
        legend(ax, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return figure


def _line(ax: Axes, points: Tensor, index: int, name: str, theme: Theme) -> None:
    fpr, tpr = points.tolist()
    ax.plot(
        fpr,
        tpr,
        color=theme.lines[index % len(theme.lines)],
        linestyle=_STROKES[index // len(theme.lines) % len(_STROKES)],
        linewidth=1.7,
        label=plain(name),
    )


def _dress(ax: Axes, edge: float, theme: Theme) -> None:
    ax.plot([edge, 1], [edge, 1], color=theme.ink, linewidth=0.9, linestyle=":", zorder=1.5)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(edge, 1)
    ax.set_ylim(edge, 1.1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("non-members called members (log scale)")
    ax.set_ylabel("members found (log scale)")
