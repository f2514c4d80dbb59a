"""An inversion benchmark's rows: milliseconds an image and iteration, against the number of victims."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradwire.report.figures import LIGHT, MARKERS, Theme, legend, panels, plain
from gradwire.report.page import Page, Section
from gradwire.report.rows import SPEED_COLUMNS, Row, number, require
from gradwire.report.run import Run
from gradwire.report.tables import Column, Table

LOOP = "loop"


def page(run: Run) -> Page:
    """Every way's time an iteration, and the objective that it reached."""
    found = points(run.rows)
    section = Section(
        "speeds",
        "How long an iteration takes",
        speed_table(found),
        lambda theme: speed_figure(found, theme),
        "Milliseconds an image and iteration against the number of victims attacked at once, one line per way; "
        "the table above holds the figures.",
    )
    return Page("How long an iteration of gradient inversion takes", (section,), headline(found))


def brief(run: Run) -> Table:
    """The same table."""
    return speed_table(points(run.rows))


@dataclass(frozen=True)
class Point:
    """One way at one number of victims; `ratio`: times as fast as the loop."""

    way: str
    victims: int
    milliseconds: float
    ratio: float
    objective: float


def points(rows: Iterable[Row]) -> list[Point]:
    """One a row, a way being called by its precision as well where it is not fp32.

    Raises:
        GradwireError: a column is missing, or a figure is not one.
    """
    found = []
    for row in rows:
        require(row, SPEED_COLUMNS, "a row of results")
        way = str(row["way"]) if row["precision"] == "fp32" else f"{row['way']}, {row['precision']}"
        figures = (number(row, name) for name in ("milliseconds", "ratio", "objective"))
        found.append(Point(way, int(number(row, "victims")), *figures))
    return found


def speed_table(found: Sequence[Point]) -> Table:
    """Every point, with the objective that it reached beside its speed."""
    titles = ("victims", "ms an image and iteration", "× the loop", "objective reached")
    lines = [(p.way, str(p.victims), f"{p.milliseconds:.3f}", f"{p.ratio:.1f}", f"{p.objective:.4f}") for p in found]
    note = (
        "Medians over iterations, in one process. Objectives are of the first victims, those that the loop attacks too."
    )
    return Table((Column("way", numeric=False), *map(Column, titles)), tuple(lines), note)


def headline(found: Sequence[Point]) -> str | None:
    """The finding in one sentence: the fastest way, and against what."""
    others = [point for point in found if point.way != LOOP]
    if not others:
        return None
    best = max(others, key=lambda point: point.ratio)
    return f"{best.way} attacks {best.victims} victims {best.ratio:.1f} times as fast as the loop over images"


def speed_figure(found: Sequence[Point], theme: Theme = LIGHT) -> Figure:
    """Milliseconds an image and iteration against victims attacked at once, both logarithmic: a line a way."""
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=4.8)
    for index, way in enumerate(dict.fromkeys(point.way for point in found)):
        line = sorted((point.victims, point.milliseconds) for point in found if point.way == way)
        colour = theme.ink if way == LOOP else theme.lines[index % len(theme.lines)]
        x, y = zip(*line, strict=True)
        marker = MARKERS[index % len(MARKERS)]
        ax.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.7, label=plain(way))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted({point.victims for point in found}))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("victims attacked at once (log scale)")
    ax.set_ylabel("ms an image and iteration (log scale)")
    legend(ax, theme, loc="best")
    return figure
