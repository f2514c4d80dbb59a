"""An inversion benchmark's rows: milliseconds an image and iteration, against the number of victims."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain, ticks
from gradwire.report.page import Page, Section
from gradwire.report.rows import SPEED_COLUMNS, Row, number, require
from gradwire.report.run import Run
from gradwire.report.tables import Table

LOOP = "loop"


def speeds_page(run: Run) -> Page:
    """Every method's time an iteration, and the objective that it reached."""
    found = points(run.rows)
    section = Section(
        "speeds",
        "How long an iteration takes",
        speed_table(found),
        lambda theme: speed_figure(found, theme),
        "Milliseconds an image and iteration against the number of victims attacked at once, one line per method; "
        "the table above holds the figures.",
    )
    return Page("How long an iteration of gradient inversion takes", (section,), headline(found))


class Point(NamedTuple):
    """One method at one number of victims; `ratio`: times as fast as the loop."""

    method: str
    victims: int
    milliseconds: float
    ratio: float
    objective: float


def points(rows: Iterable[Row]) -> list[Point]:
    """One point a row, the precision named where it is not fp32; `GradwireError` for a bad column or cell."""
    found = []
    for row in rows:
        require(row, SPEED_COLUMNS, "a row of results")
        method = str(row["way"]) if row["precision"] == "fp32" else f"{row['way']}, {row['precision']}"
        figures = (number(row, name) for name in ("milliseconds", "ratio", "objective"))
        found.append(Point(method, int(number(row, "victims")), *figures))
    return found


def speed_table(found: Sequence[Point]) -> Table:
    """Every point, with the objective that it reached beside its speed."""
    lines = [
        {
            "method": point.method,
            "victims": str(point.victims),
            "ms an image and iteration": f"{point.milliseconds:.3f}",
            "× the loop": f"{point.ratio:.1f}",
            "objective reached": f"{point.objective:.4f}",
        }
        for point in found
    ]
    note = "Medians over iterations, in one process. Objectives are of the first victims, which the loop attacks too."
    return Table.of(lines, ("method",), note)


def headline(found: Sequence[Point]) -> str | None:
    """The finding in one sentence: the fastest method, and how much faster than the loop it is."""
    others = [point for point in found if point.method != LOOP]
    if not others:
        return None
    best = max(others, key=lambda point: point.ratio)
    return f"{best.method} attacks {best.victims} victims {best.ratio:.1f} times as fast as the loop over images"


def speed_figure(found: Sequence[Point], theme: Theme = LIGHT) -> Figure:
    """Milliseconds an image and iteration against victims attacked at once, both logarithmic: a line a method."""
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=4.8)
    for index, method in enumerate(dict.fromkeys(point.method for point in found)):
        line = sorted((point.victims, point.milliseconds) for point in found if point.method == method)
        look = theme.mark(index) | ({"color": theme.ink} if method == LOOP else {})
        x, y = zip(*line, strict=True)
        ax.plot(x, y, markersize=5, linewidth=1.7, label=plain(method), **look)
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", xticks=sorted({point.victims for point in found}))
    for axis in (ax.xaxis, ax.yaxis):
        ticks(axis, lambda value: f"{value:g}")
    ax.set(xlabel="victims attacked at once (log scale)", ylabel="ms an image and iteration (log scale)")
    legend(ax, theme, loc="best")
    return figure
