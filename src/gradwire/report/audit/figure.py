"""Leakage against bytes: what an adversary sees of the inputs as the message shrinks."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from gradwire.report.audit.summary import KNOWLEDGE, Summary, labels
from gradwire.report.domain import RunDomain
from gradwire.report.figures import LIGHT, Axes, Axis, Figure, Theme, handle, legend, plain, ticks, tiles
from gradwire.report.formats import size, times
from gradwire.report.rows import BASELINE

_DASHES: dict[str, Any] = {"naive": (0, (4, 2)), "adaptive": "solid"}
_TALL = 0.113
"""The part of a panel's height that two lines of text take."""
_DECADES = 30.0
"""Where low figures give away more, those further apart than this factor stand on a logarithmic axis."""


def leakage_figure(summaries: Sequence[Summary], theme: Theme = LIGHT) -> Figure:
    """The mean leading score (band: ± one sample std over victims) against bytes up, on a logarithmic axis.

    One line per family of schemes (colour) and knowledge (dashed: naive; solid: adaptive); `none` is a horizontal
    line, at the knowledge that does best against it, and so is what knowing nothing gets. One panel per setting.
    """
    varying = labels(summary.setting for summary in summaries)
    figure, axes = tiles(theme, len(varying), width=6.2, height=4.3)
    families = list(dict.fromkeys(s.family for s in summaries if s.scheme != BASELINE))
    for ax, (setting, differs) in zip(axes, varying.items(), strict=True):
        _panel(ax, [s for s in summaries if s.setting == setting], families, theme)
        if differs:
            ax.set_title(plain(", ".join(f"{field} {value}" for field, value in differs.items())), fontsize="medium")
    _legend(axes[0], families, theme)
    return figure


def caption(summaries: Sequence[Summary]) -> str:
    """How to read the figure: most families have one point, without a line to be dashed or a band."""
    counts = Counter((s.setting, s.family, s.knowledge) for s in summaries if s.scheme != BASELINE)
    if max(counts.values(), default=1) == 1:
        return "Hollow: naive; filled: adaptive. Error bars: ± one sample standard deviation over victims."
    single = ", or error bars where there is one point" if 1 in counts.values() else ""
    return f"Dashed: naive; solid: adaptive. Bands{single}: ± one sample standard deviation over victims."


def _panel(ax: Axes, summaries: Sequence[Summary], families: Sequence[str], theme: Theme) -> None:
    for index, family in enumerate(families):
        for knowledge in KNOWLEDGE:
            points = [s for s in summaries if s.family == family and s.knowledge == knowledge]
            if points:
                _line(ax, sorted(points, key=lambda s: s.bytes_up), index, knowledge, theme)
    domain = summaries[0].domain
    noun = f"{domain.words.noun}{'' if domain.higher else ': lower gives away more'}"
    score = "SSIM with the private image" if domain.pictures else noun
    ax.set(xlabel="bytes that a victim sends in the round (log scale)", ylabel=score)
    levels = _levels(summaries)
    _heights(ax, [*(s.score for s in summaries), *(height for height, _ in levels)], domain)
    _sizes(ax, summaries, theme)
    _reference(ax, levels, theme)


def _heights(ax: Axes, heights: Sequence[float], domain: RunDomain) -> None:
    """The axis of the score: from 0, or the least figure, to a little above the greatest; shares go up to 1."""
    known = [height for height in heights if not math.isnan(height)] or [1.0]
    low, high = min(known), max(known)
    if not domain.higher and low > 0 and high > _DECADES * low:
        ax.set(yscale="log", ylim=(low / 2, high * 2))
    else:
        top = 1.0 if domain.words.share else high
        ax.set_ylim(min(0.0, low), 1.06 * top if top > 0 else 1.0)


def _line(ax: Axes, points: Sequence[Summary], index: int, knowledge: str, theme: Theme) -> None:
    look, adaptive = theme.mark(index), knowledge == "adaptive"
    colour = look["color"]
    x, y = [s.bytes_up for s in points], [s.score for s in points]
    spread = [s.score_std or 0.0 for s in points]
    dots = {"markersize": 6, "markerfacecolor": colour if adaptive else theme.paper, "markeredgecolor": colour}
    ax.plot(x, y, linestyle=_DASHES[knowledge], linewidth=1.8, zorder=3, **look, **dots)
    if len(points) == 1:
        ax.errorbar(x, y, yerr=spread, color=colour, linestyle="none", linewidth=1, capsize=3)
    low, high = ([m + sign * d for m, d in zip(y, spread, strict=True)] for sign in (-1, 1))
    ax.fill_between(x, low, high, color=colour, alpha=0.13 if adaptive else 0.07, linewidth=0)


def _levels(summaries: Sequence[Summary]) -> list[tuple[float, str]]:
    """Heights and names: where success begins, what `none` leaks and what knowing nothing gets, as far as known."""
    domain, levels = summaries[0].domain, []
    if domain.threshold is not None:
        levels.append((domain.threshold, f"success\n{domain.bound}"))
    for nothing in dict.fromkeys(s.uninformed for s in summaries if s.uninformed is not None):
        levels.append((nothing, f"knowing\nnothing {domain.says(nothing)}"))
    baseline = [s for s in summaries if s.scheme == BASELINE]
    if baseline:
        best = domain.best(s.score for s in baseline)
        levels.append((best, f"none\n{size(next(s.bytes_up for s in baseline if s.score == best))}"))
    return levels


def _reference(ax: Axes, levels: Sequence[tuple[float, str]], theme: Theme) -> None:
    """Horizontal lines with their names at the right, which are moved apart where lines are close."""
    place: dict[str, Any] = {"xytext": (5, 0), "xycoords": "axes fraction", "textcoords": "offset points"}
    inside = ax.transScale + ax.transLimits
    found = sorted((float(inside.transform((ax.get_xlim()[0], height))[1]), text) for height, text in levels)
    least = 0.0
    for (where, text), (height, _) in zip(found, sorted(levels), strict=True):
        look = {"color": theme.ink, "linewidth": 1.4, "zorder": 1.5} if text.startswith("none") else theme.dotted
        ax.axhline(height, **look)
        least = max(where, least) + _TALL
        ax.annotate(text, (1, least - _TALL), va="center", color=theme.ink, fontsize="small", **place)


def _sizes(ax: Axes, summaries: Sequence[Summary], theme: Theme) -> None:
    """The axes of bytes below, and above of how many times smaller than dense float32 the message is.

    They span a little more than the points need, and never so little that two ticks would read the same. Ticks are at
    1, 2 and 5 of each decade, or at 1 alone where there are too many decades for that.
    """
    import numpy as np
    from matplotlib.ticker import LogLocator

    sizes = [s.bytes_up for s in summaries if s.scheme != BASELINE] or [s.bytes_up for s in summaries]
    low, high = max(1.0, min(sizes)), max(1.0, *sizes)
    middle, reach = math.sqrt(low * high), max(3.0, 1.25 * math.sqrt(high / low))
    ax.set(xscale="log", xlim=(middle / reach, middle * reach))
    scales: list[tuple[Axis, Callable[[float], str]]] = [(ax.xaxis, size)]
    dense = summaries[0].bytes_up * summaries[0].ratio
    if dense > 0:

        def other(value: Any) -> Any:
            """Bytes to ratio, and ratio to bytes; matplotlib probes it at zero, outside every logarithmic axis."""
            return dense / np.maximum(value, 1e-9)

        upper = ax.secondary_xaxis("top", functions=(other, other))
        upper.tick_params(which="both", color=theme.faint, labelcolor=theme.ink)
        upper.spines["top"].set_visible(False)
        upper.set_xlabel("times smaller than the plain update", color=theme.ink)
        scales.append((upper.xaxis, times))
    for axis, text in scales:
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
        ticks(axis, text)


def _legend(ax: Axes, families: Sequence[str], theme: Theme) -> None:
    handles = [handle(family, **theme.mark(index)) for index, family in enumerate(families)]
    for knowledge, label in (("adaptive", "adaptive: knows the scheme"), ("naive", "naive: decodes, then attacks")):
        fill = theme.ink if knowledge == "adaptive" else theme.paper
        style = {"color": theme.ink, "linestyle": _DASHES[knowledge], "marker": "o", "markerfacecolor": fill}
        handles.append(handle(label, **style))
    legend(ax, theme, handles=handles, loc="best")
