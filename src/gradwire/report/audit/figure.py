"""Leakage against bytes: what an adversary sees of the images as the message shrinks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gradwire.metrics import SUCCESS
from gradwire.report.audit.summary import KNOWLEDGE, Summary, labels
from gradwire.report.figures import LIGHT, MARKERS, Theme, legend, panels, plain
from gradwire.report.formats import size, times
from gradwire.report.rows import BASELINE

_DASHES: dict[str, Any] = {"naive": (0, (4, 2)), "adaptive": "solid"}
_TALL = 0.12
"""SSIM that two lines of text stand for."""


def leakage_figure(summaries: Sequence[Summary], theme: Theme = LIGHT) -> Figure:
    """Mean SSIM (band: ± one sample std over victims) against bytes up, on a logarithmic axis.

    One line per family of schemes (colour) and knowledge (dashed: naive; solid: adaptive); `none` is a horizontal
    line, at the knowledge that does best against it. One panel per setting.
    """
    told = labels(summary.setting for summary in summaries)
    columns = min(2, len(told))
    figure, axes = panels(
        theme, math.ceil(len(told) / columns), columns, width=7.4 if columns == 1 else 6.2, height=4.3
    )
    families = list(dict.fromkeys(s.family for s in summaries if s.scheme != BASELINE))
    for ax in axes[len(told) :]:
        ax.set_visible(False)
    for ax, (setting, differs) in zip(axes, told.items(), strict=False):
        _panel(ax, [s for s in summaries if s.setting == setting], families, theme)
        if differs:
            ax.set_title(plain(", ".join(f"{field} {value}" for field, value in differs.items())), fontsize="medium")
    _legend(axes[0], families, theme)
    return figure


def _panel(ax: Axes, summaries: Sequence[Summary], families: Sequence[str], theme: Theme) -> None:
    for index, family in enumerate(families):
        for knowledge in KNOWLEDGE:
            points = [s for s in summaries if s.family == family and s.knowledge == knowledge]
            _line(ax, sorted(points, key=lambda s: s.bytes_up), index, knowledge, theme)
    ax.axhline(SUCCESS, color=theme.ink, linewidth=0.9, linestyle=":", zorder=1.5)
    levels = [(SUCCESS, f"success\n≥ {SUCCESS}")]
    baseline = [s for s in summaries if s.scheme == BASELINE]
    if baseline:
        best = max(baseline, key=lambda s: s.ssim)
        ax.axhline(best.ssim, color=theme.ink, linewidth=1.4, zorder=1.5)
        levels.append((best.ssim, f"none\n{size(best.bytes_up)}"))
    levels.sort()
    apart = levels[-1][0] - levels[0][0] >= _TALL
    for (height, text), side in zip(levels, ("top", "bottom"), strict=False):
        _note(ax, height, text, theme, "center" if apart or len(levels) == 1 else side)
    ax.set_xscale("log")
    ax.set_xlim(_limits(summaries))
    ax.xaxis.set_major_locator(_ticks(summaries))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(min(0.0, *(s.ssim for s in summaries)), 1.06)
    ax.set_xlabel("bytes that a victim sends in the round (log scale)")
    ax.set_ylabel("SSIM with the private image")
    _ratios(ax, summaries, theme)


def _line(ax: Axes, points: Sequence[Summary], index: int, knowledge: str, theme: Theme) -> None:
    if not points:
        return
    colour = theme.lines[index % len(theme.lines)]
    x, y = [s.bytes_up for s in points], [s.ssim for s in points]
    spread = [s.ssim_std or 0.0 for s in points]
    ax.plot(
        x,
        y,
        color=colour,
        linestyle=_DASHES[knowledge],
        linewidth=1.8,
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        markerfacecolor=colour if knowledge == "adaptive" else theme.paper,
        markeredgecolor=colour,
        zorder=3,
    )
    if len(points) == 1:
        ax.errorbar(x, y, yerr=spread, color=colour, linestyle="none", linewidth=1, capsize=3)
    low, high = ([m + sign * d for m, d in zip(y, spread, strict=True)] for sign in (-1, 1))
    ax.fill_between(x, low, high, color=colour, alpha=0.13 if knowledge == "adaptive" else 0.07, linewidth=0)


def _note(ax: Axes, height: float, text: str, theme: Theme, side: str) -> None:
    ax.annotate(
        text,
        (1, height),
        xytext=(5, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va=side,
        color=theme.ink,
        fontsize="small",
    )


def _ratios(ax: Axes, summaries: Sequence[Summary], theme: Theme) -> None:
    """Say on the upper edge how many times smaller than dense float32 the message is."""
    first = summaries[0]
    dense = first.bytes_up * first.ratio
    if not dense > 0:
        return

    def other(value: Any) -> Any:
        """Bytes to ratio, and ratio to bytes; matplotlib probes it at zero, outside every logarithmic axis."""
        return dense / np.maximum(value, 1e-9)

    upper = ax.secondary_xaxis("top", functions=(other, other))
    upper.xaxis.set_major_locator(_ticks(summaries))
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: times(value)))
    upper.xaxis.set_minor_formatter(NullFormatter())
    upper.tick_params(which="both", color=theme.faint, labelcolor=theme.ink)
    upper.spines["top"].set_visible(False)
    upper.set_xlabel("times smaller than the plain update", color=theme.ink)


def _sizes(summaries: Sequence[Summary]) -> tuple[float, float]:
    """The fewest and the most bytes among the points."""
    sizes = [s.bytes_up for s in summaries if s.scheme != BASELINE] or [s.bytes_up for s in summaries]
    return max(1.0, min(sizes)), max(1.0, *sizes)


def _limits(summaries: Sequence[Summary]) -> tuple[float, float]:
    """A little more than the points need, and never so little that two ticks would read the same."""
    low, high = _sizes(summaries)
    middle, reach = math.sqrt(low * high), max(3.0, 1.25 * math.sqrt(high / low))
    return middle / reach, middle * reach


def _ticks(summaries: Sequence[Summary]) -> LogLocator:
    """Ticks at 1, 2 and 5 of each decade, or at 1 only where the axis spans too many for that."""
    low, high = _sizes(summaries)
    return LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0))


def _legend(ax: Axes, families: Sequence[str], theme: Theme) -> None:
    handles = [
        Line2D([], [], color=theme.lines[i % len(theme.lines)], marker=MARKERS[i % len(MARKERS)], label=plain(family))
        for i, family in enumerate(families)
    ]
    for knowledge, label in (("adaptive", "adaptive: knows the scheme"), ("naive", "naive: decodes, then attacks")):
        fill = theme.ink if knowledge == "adaptive" else theme.paper
        style = {"color": theme.ink, "linestyle": _DASHES[knowledge], "marker": "o", "markerfacecolor": fill}
        handles.append(Line2D([], [], **style, label=label))
    legend(ax, theme, handles=handles, loc="best")
