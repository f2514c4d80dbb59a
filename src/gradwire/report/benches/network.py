"""A network benchmark's rows: what a step takes on a link of any speed, and below which speed a scheme pays."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradwire.metrics.links import Step
from gradwire.report.figures import LIGHT, MARKERS, Theme, legend, panels, plain
from gradwire.report.formats import NOTHING
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, NETWORK_COLUMNS, Row, number, require
from gradwire.report.run import Run
from gradwire.report.tables import Column, Table

MODELLED, MEASURED = "modelled", "measured"
SPAN = (1e7, 1e11)
"""The figure's slowest and fastest link, in bits a second."""


def page(run: Run) -> Page:
    """What a step of each scheme takes at a few speeds, and on a link of any."""
    found = paces(run.rows)
    return Page(
        "What a step takes on links of any speed",
        (
            Section("steps", "What a step takes", network_table(found)),
            Section(
                "network",
                "On a link of any speed",
                draw=lambda theme: network_figure(found, theme),
                says="Time of a step against the speed of the link, one line per scheme, with a cross where it meets "
                "that of plain SGD; the table above holds the figures.",
                note="Lines are modelled; a cross stands where a scheme's line meets that of plain SGD, left of it "
                "the scheme is faster. Marks off the lines were measured.",
            ),
        ),
        headline(found),
    )


def brief(run: Run) -> Table:
    """Times, without what they are made of."""
    return network_table(paces(run.rows), brief=True)


@dataclass(frozen=True)
class StepPace:
    """One scheme on links.

    Attributes:
        step: what its step is made of; `latency`, seconds a message.
        modelled: rate in bits a second → seconds a step, at the rates of the table. `measured`: on real links.
        crossing: the rate below which it beats plain SGD; 0 for never, inf for always, None for plain SGD itself.
    """

    step: Step
    latency: float
    modelled: dict[float, float]
    measured: dict[float, float]
    crossing: float | None


def paces(rows: Iterable[Row]) -> list[StepPace]:
    """One for each scheme, in order of appearance.

    Raises:
        GradwireError: a column is missing, or a figure is not one.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        require(row, NETWORK_COLUMNS, "a row of results")
        groups.setdefault(str(row["scheme"]), []).append(row)
    steps = {scheme: _step(scheme, group) for scheme, group in groups.items()}
    plain_step = steps.get(BASELINE)
    found = []
    for scheme, group in groups.items():
        latency = number(group[0], "latency")
        compared = plain_step is not None and scheme != BASELINE
        crossing = steps[scheme].beats(plain_step, latency) if compared and plain_step else None
        found.append(StepPace(steps[scheme], latency, _times(group, MODELLED), _times(group, MEASURED), crossing))
    return found


def rate_text(rate: float | None) -> str:
    """A speed: 100 Mbps, 1 Gbps, 2.4 Gbps."""
    if rate is None or rate == 0 or math.isinf(rate):
        return NOTHING if rate is None else "never" if rate == 0 else "always"
    unit, scale = ("Gbps", 1e9) if rate >= 999.5e6 else ("Mbps", 1e6)
    return f"{rate / scale:.3g} {unit}"


def network_table(found: Sequence[StepPace], brief: bool = False) -> Table:
    """What a step is made of, its time at each rate (modelled / measured), and the speed below which it pays.

    Args:
        found: what `paces` gives.
        brief: leave compute and coding out, so that the table fits a terminal of 80 characters.
    """
    rates = sorted(dict.fromkeys(rate for pace in found for rate in pace.modelled))
    made_of = () if brief else ("compute", "coding")
    titles = (*made_of, "MB", *map(rate_text, rates), "pays below")
    lines = [
        (p.step.scheme, *_made_of(p.step)[-1 - len(made_of) :], *_at(p, rates), rate_text(p.crossing)) for p in found
    ]
    both = " / measured on a real link" if any(pace.measured for pace in found) else ""
    note = (
        f"Seconds a step: modelled{both}. MB are what a worker's link carries each way in a step. Modelled is compute "
        f"+ coding + 8·bytes/rate + {1e3 * found[0].latency:g} ms a message; nothing overlaps."
    )
    return Table((Column("scheme", numeric=False), *map(Column, titles)), tuple(lines), note)


def headline(found: Sequence[StepPace]) -> str | None:
    """The finding in one sentence: the scheme that pays up to the fastest link."""
    crossings = {pace.step.scheme: pace.crossing for pace in found if pace.crossing}
    if not crossings:
        return None
    best = max(crossings, key=lambda scheme: crossings[scheme] or 0)
    if math.isinf(crossings[best] or 0):
        return f"{best} is faster than plain SGD on a link of any speed"
    return f"{best} is faster than plain SGD on links below {rate_text(crossings[best])}"


def network_figure(found: Sequence[StepPace], theme: Theme = LIGHT) -> Figure:
    """Seconds a step against the link's speed: a line a scheme, a cross where it meets plain SGD's, marks measured."""
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=4.8)
    low, high = (math.log10(end) for end in SPAN)
    rates = [10 ** (low + (high - low) * i / 200) for i in range(201)]
    baseline = next((pace for pace in found if pace.step.scheme == BASELINE), None)
    for index, pace in enumerate(found):
        colour = theme.ink if pace is baseline else theme.lines[index % len(theme.lines)]
        label = plain(pace.step.scheme)
        if pace.crossing is not None:
            meets = rate_text(pace.crossing)
            label += f": {meets} faster" if meets in ("never", "always") else f": faster below {meets}"
        ax.plot(rates, [pace.step.seconds(r, pace.latency) for r in rates], color=colour, linewidth=1.7, label=label)
        marker = MARKERS[index % len(MARKERS)]
        x, y = list(pace.measured), list(pace.measured.values())
        ax.plot(x, y, linestyle="none", marker=marker, markerfacecolor=theme.paper, color=colour, zorder=3)
        if pace.crossing and baseline and SPAN[0] < pace.crossing < SPAN[1]:
            at = baseline.step.seconds(pace.crossing, pace.latency)
            ax.plot([pace.crossing], [at], marker="x", color=colour, zorder=4, markersize=8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*SPAN)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("speed of every worker's link (log scale)")
    ax.set_ylabel("time of a step (log scale)")
    legend(ax, theme, loc="best")
    return figure


def _step(scheme: str, group: Sequence[Row]) -> Step:
    first = next(row for row in group if row["source"] == MODELLED)
    compute, coding, count = (number(first, name) for name in ("compute", "coding", "bytes"))
    return Step(scheme, compute, coding, count, int(number(first, "messages")))


def _times(group: Sequence[Row], source: str) -> dict[float, float]:
    """Rate → seconds, the mean where there are several."""
    times: dict[float, list[float]] = {}
    for row in group:
        if row["source"] == source and not math.isnan(number(row, "rate")):
            times.setdefault(number(row, "rate"), []).append(number(row, "seconds"))
    return {rate: fmean(values) for rate, values in sorted(times.items())}


def _made_of(step: Step) -> tuple[str, str, str]:
    return f"{step.compute:.3f} s", f"{step.coding:.3f} s", f"{step.bytes / 1e6:.2f}"


def _at(pace: StepPace, rates: Sequence[float]) -> list[str]:
    return [
        f"{pace.modelled[rate]:.2f}" + (f" / {pace.measured[rate]:.2f}" if rate in pace.measured else "")
        for rate in rates
    ]
