"""A network benchmark's rows: what a step takes on a link of any speed, and below which speed a scheme pays."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain, ticks
from gradwire.report.formats import NOTHING
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, NETWORK_COLUMNS, Row, group_by, mean, number
from gradwire.report.run import Run
from gradwire.report.tables import Column, Table

if TYPE_CHECKING:
    from gradwire.metrics.links import Step

MODELLED, MEASURED = "modelled", "measured"
SPAN = (1e7, 1e11)
"""The figure's slowest and fastest link, in bits a second."""


def network_page(run: Run) -> Page:
    """What a step of each scheme takes at a few speeds, and on a link of any."""
    found = paces(run.rows)
    curves = Section(
        "network",
        "On a link of any speed",
        draw=lambda theme: network_figure(found, theme),
        says="Time of a step against the speed of the link, one line per scheme, with a cross where it meets "
        "that of plain SGD; the table above holds the figures.",
        note="Lines are modelled; a cross stands where a scheme's line meets that of plain SGD, left of it "
        "the scheme is faster. Marks off the lines were measured.",
    )
    steps = Section("steps", "What a step takes", network_table(found))
    return Page("What a step takes on links of any speed", (steps, curves), headline(found))


@dataclass(frozen=True)
class StepPace:
    """One scheme on links.

    Attributes:
        step: what its step is made of. latency: seconds a message.
        modelled: rate in bits a second → seconds a step, at the rates of the table. measured: on real links.
        crossing: the rate below which it beats plain SGD by the model; 0 for never, inf for always, None for plain SGD
            itself. met: the same of the measured steps, overlap included, as text; "" where nothing was measured.
    """

    step: "Step"
    latency: float
    modelled: dict[float, float]
    measured: dict[float, float]
    crossing: float | None
    met: str = ""


def paces(rows: Iterable[Row]) -> list[StepPace]:
    """One for each scheme, in order of appearance; `GradwireError` for a bad column or cell."""
    groups = group_by(rows, NETWORK_COLUMNS, lambda row: str(row["scheme"]))
    steps = {scheme: _step(scheme, group) for scheme, group in groups.items()}
    baseline = steps.get(BASELINE)
    found = []
    for scheme, group in groups.items():
        latency = number(group[0], "latency")
        crossing = steps[scheme].beats(baseline, latency) if baseline and scheme != BASELINE else None
        modelled, measured = _times(group, MODELLED), _times(group, MEASURED)
        met = _met(_times(groups[BASELINE], MEASURED), measured) if crossing is not None else ""
        found.append(StepPace(steps[scheme], latency, modelled, measured, crossing, met))
    return found


def _met(plain: Mapping[float, float], other: Mapping[float, float]) -> str:
    from gradwire.metrics.links import crossing

    if not (rates := plain.keys() & other.keys()):
        return ""
    rate = crossing(plain, other)
    ends = {0.0: f"under {rate_text(min(rates))}", math.inf: f"over {rate_text(max(rates))}"}
    return ends.get(rate, rate_text(rate))


def rate_text(rate: float | None) -> str:
    """A speed: 100 Mbps, 1 Gbps, 2.4 Gbps."""
    if rate is None or rate == 0 or math.isinf(rate):
        return NOTHING if rate is None else "never" if rate == 0 else "always"
    unit, scale = ("Gbps", 1e9) if rate >= 999.5e6 else ("Mbps", 1e6)
    return f"{rate / scale:.3g} {unit}"


def network_table(found: Sequence[StepPace], brief: bool = False) -> Table:
    """What a step is made of, its time at each rate (modelled / measured), and the speed below which it pays.

    `brief` leaves out compute and coding, so that the table fits 80 characters.
    """
    rates = sorted({rate for pace in found for rate in pace.modelled})
    titles = (*(() if brief else ("compute", "coding")), "MB", *map(rate_text, rates), "pays below")
    rows = []
    for pace in found:
        step, real = pace.step, pace.measured
        made_of = [] if brief else [f"{step.compute:.3f} s", f"{step.coding:.3f} s"]
        times = [f"{pace.modelled[r]:.2f}" + (f" / {real[r]:.2f}" if r in real else "") for r in rates]
        pays = rate_text(pace.crossing) + (f" / {pace.met}" if pace.met else "")
        rows.append((step.scheme, *made_of, f"{step.bytes / 1e6:.2f}", *times, pays))
    both = " / measured on a real link" if any(pace.measured for pace in found) else ""
    note = (
        f"Seconds a step: modelled{both}. MB are what a worker's link carries each way in a step. Modelled is compute "
        f"+ coding + 8·bytes/rate + {1e3 * found[0].latency:g} ms a message; nothing overlaps. A measured crossing is "
        "what users get, sending beside the backward pass included; it lies on a line between two measured links."
    )
    return Table((Column("scheme", numeric=False), *map(Column, titles)), tuple(rows), note)


def headline(found: Sequence[StepPace]) -> str | None:
    """The finding in one sentence: the scheme that pays up to the fastest link."""
    crossings = {pace.crossing: pace.step.scheme for pace in reversed(found) if pace.crossing}
    if not crossings:
        return None
    rate = max(crossings)
    links = "a link of any speed" if math.isinf(rate) else f"links below {rate_text(rate)}"
    return f"{crossings[rate]} is faster than plain SGD on {links}"


def network_figure(found: Sequence[StepPace], theme: Theme = LIGHT) -> Figure:
    """Seconds a step against the link's speed: a line a scheme, a cross where it meets plain SGD's, marks measured."""
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=4.8)
    low, high = (math.log10(end) for end in SPAN)
    rates = [10 ** (low + (high - low) * i / 200) for i in range(201)]
    baseline = next((pace for pace in found if pace.step.scheme == BASELINE), None)
    for index, pace in enumerate(found):
        look = theme.mark(index) | ({"color": theme.ink} if pace is baseline else {})
        label = plain(pace.step.scheme)
        if pace.crossing is not None:
            meets = rate_text(pace.crossing)
            label += f": {meets} faster" if meets in ("never", "always") else f": faster below {meets}"
        times = [pace.step.seconds(rate, pace.latency) for rate in rates]
        ax.plot(rates, times, color=look["color"], linewidth=1.7, label=label)
        x, y = list(pace.measured), list(pace.measured.values())
        ax.plot(x, y, linestyle="none", markerfacecolor=theme.paper, zorder=3, **look)
        if pace.crossing and baseline and SPAN[0] < pace.crossing < SPAN[1]:
            at = baseline.step.seconds(pace.crossing, pace.latency)
            ax.plot([pace.crossing], [at], marker="x", color=look["color"], zorder=4, markersize=8)
    ax.set(xscale="log", yscale="log", xlim=SPAN)
    ticks(ax.xaxis, rate_text)
    ticks(ax.yaxis, lambda value: f"{value:g} s")
    ax.set(xlabel="speed of every worker's link (log scale)", ylabel="time of a step (log scale)")
    legend(ax, theme, loc="best")
    return figure


def _step(scheme: str, group: Sequence[Row]) -> "Step":
    from gradwire.metrics.links import Step

    first = next(row for row in group if row["source"] == MODELLED)
    compute, coding, count = (number(first, name) for name in ("compute", "coding", "bytes"))
    return Step(scheme, compute, coding, count, int(number(first, "messages")))


def _times(group: Sequence[Row], source: str) -> dict[float, float]:
    """Rate → seconds, the mean where there are several."""
    timed = [row for row in group if row["source"] == source and not math.isnan(number(row, "rate"))]
    rates = group_by(timed, (), lambda row: number(row, "rate"))
    return {rate: mean(rates[rate], "seconds") for rate in sorted(rates)}
