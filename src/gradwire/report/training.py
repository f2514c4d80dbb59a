"""The report of a training run: one series per scheme, how well it learns, and what that costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain, ticks
from gradwire.report.formats import NOTHING, part, size, spread, times
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, TRAIN_COLUMNS, Row, by_scheme, group_by, mean, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

NOTE = (
    "Bytes are the lengths of the serialised messages, headers included, summed from the first round on; the ratio is "
    "the size of the dense float32 updates over the bytes up. Figures are those of the last evaluation, not of the "
    "best; with several seeds, the mean ± sample standard deviation."
)


class Measure(NamedTuple):
    """What tells how well a task is learned: its column, how it is called, and its unit as so many of the column's."""

    column: str
    title: str
    factor: float = 1.0
    unit: str = ""
    digits: int = 3

    def text(self, value: float, deviation: float | None = None) -> str:
        """A figure of the column, and its deviation, as a table has it."""
        told = spread(self.factor * value, deviation and self.factor * deviation, self.digits)
        return told if told == NOTHING else told + self.unit


MEASURES = (
    Measure("test_accuracy", "test accuracy", 100, " %", 1),
    Measure("test_absolute_error", "test absolute error"),
)


def training_page(run: Run) -> Page:
    """Where each scheme ended, how it came there, and every evaluation."""
    series = follow(run.rows)
    curves = Section(
        "training",
        "Learning, by round and by bytes",
        draw=lambda theme: training_figure(series, theme),
        says=f"Loss and {measures(series)[0].title} against rounds and megabytes sent up, one line per scheme; "
        "the table above holds the last figures.",
    )
    return Page(
        "What training cost, and how well it went",
        (Section("summary", "Where each scheme ended", training_table(series), note=NOTE), curves),
        headline(series),
        template="training.html.j2",
        content={"series": series, "measures": measures(series)},
    )


class SeriesPoint(NamedTuple):
    """One evaluation, a mean over seeds. Bytes are counted from the first round on; NaN where not measured."""

    round: float
    bytes_up: float
    bytes_down: float
    ratio: float
    train_loss: float
    test_loss: float
    test_accuracy: float
    test_absolute_error: float


@dataclass(frozen=True)
class Series:
    """The evaluations of one scheme on one data set and model, by rising round.

    Attributes:
        name: the scheme, after data and model where the run has several of them.
        points: the evaluations, each a mean over the seeds that reached that round.
        seeds: number of seeds. deviations: sample standard deviation of each of `MEASURES` at the end; None for one
            seed.
        seconds: mean time of a seed.
    """

    name: str
    points: tuple[SeriesPoint, ...]
    seeds: int
    deviations: tuple[float | None, ...]
    seconds: float

    @property
    def accuracy_std(self) -> float | None:
        """Sample standard deviation of the last accuracy; None for one seed."""
        return self.deviations[0]


def measures(series: Sequence[Series]) -> list[Measure]:
    """What was measured of any of these; accuracy where nothing was."""
    found = [m for m in MEASURES if any(not math.isnan(getattr(p, m.column)) for one in series for p in one.points)]
    return found or [MEASURES[0]]


def follow(rows: Iterable[Row]) -> list[Series]:
    """One series per data, model and scheme, in order of appearance; `GradwireError` for a bad column or cell."""
    return [_series(name, group) for name, group in by_scheme(rows, TRAIN_COLUMNS)]


def training_table(series: Sequence[Series], brief: bool = False) -> Table:
    """What each scheme ended with: rounds, bytes, losses, and accuracy or error (mean ± sample std over seeds).

    `brief` leaves out bytes down and training loss, so that the table fits 80 characters.
    """
    measured = measures(series)
    lines = [_final(one, measured) for one in series]
    return Table.of(lines, ("scheme",), without=("bytes down", "train loss") if brief else ())


def headline(series: Sequence[Series]) -> str | None:
    """What the scheme with the best last accuracy, or error, reaches and costs, beside `none`; None if none compares."""
    named = {one.name: one.points[-1] for one in series}
    baseline = named.pop(BASELINE, None)
    if baseline is None or not named:
        return None
    measure = measures(series)[0]
    choose = max if measure is MEASURES[0] else min
    name, best = choose(named.items(), key=lambda item: getattr(item[1], measure.column))
    reached, plainly = (measure.text(getattr(point, measure.column)) for point in (best, baseline))
    return f"At {part(best.ratio)}, {name} reaches {reached} {measure.title}; plain SGD reaches {plainly}"


def training_figure(series: Sequence[Series], theme: Theme = LIGHT) -> Figure:
    """Test loss (faint: training loss) and accuracy in per cent, or error, against rounds and against bytes sent up."""
    measure = measures(series)[0]
    figure, axes = panels(theme, 2, 2, width=5.2, height=3.4)
    for index, one in enumerate(series):
        # Nothing has been sent before the first round, and zero has no place on a logarithmic axis.
        sent = [point for point in one.points if point.bytes_up > 0]
        by_round, by_bytes = [point.round for point in one.points], [point.bytes_up for point in sent]
        faint = {**theme.stroke(index), "linewidth": 1.0, "alpha": 0.5}
        clear = {**theme.stroke(index), **theme.mark(index), "linewidth": 1.7, "markersize": 3.5}
        for column, (x, points) in enumerate(((by_round, one.points), (by_bytes, sent))):
            clear |= {"markevery": max(1, len(x) // 8), "label": plain(one.name)}
            axes[column].plot(x, [p.train_loss for p in points], **faint)
            axes[column].plot(x, [p.test_loss for p in points], **clear)
            axes[2 + column].plot(x, [measure.factor * getattr(p, measure.column) for p in points], **clear)
    every = [point.bytes_up for one in series for point in one.points if point.bytes_up > 0]
    # Within a decade a logarithmic axis may have no tick at all.
    wide = bool(every) and max(every) >= 10 * min(every)
    for column, label in enumerate(("rounds", "bytes sent up (log scale)" if wide else "bytes sent up")):
        axes[column].set_ylabel("loss: test, and training (faint)")
        axes[2 + column].set(ylabel=measure.title + (f",{measure.unit}" if measure.unit else ""), xlabel=label)
    for ax in (axes[1], axes[3]):
        ax.set_xscale("log" if wide else "linear")
        ticks(ax.xaxis, size)
    handles, names = axes[2].get_legend_handles_labels()
    legend(figure, theme, handles=handles, labels=names, loc="outside lower center", ncols=min(3, len(series)))
    return figure


def _series(name: str, rows: Sequence[Row]) -> Series:
    ordered = sorted(group_by(rows, (), lambda row: number(row, "round")).items())
    # Tasks with an accuracy have no column of errors.
    ordered = [
        (at, [dict.fromkeys((m.column for m in MEASURES), "") | dict(row) for row in group]) for at, group in ordered
    ]
    last = [[number(row, measure.column) for row in ordered[-1][1]] for measure in MEASURES]
    seeds = group_by(rows, (), lambda row: str(row["seed"])).values()
    return Series(
        name,
        tuple(SeriesPoint(*(mean(group, field) for field in SeriesPoint._fields)) for _, group in ordered),
        seeds=len(seeds),
        deviations=tuple(stdev(figures) if len(figures) > 1 else None for figures in last),
        seconds=fmean(max(number(row, "seconds") for row in group) for group in seeds),
    )


def _final(series: Series, measured: Sequence[Measure]) -> dict[str, str]:
    """Heading → cell."""
    last, deviations = series.points[-1], dict(zip(MEASURES, series.deviations, strict=True))
    return {
        "scheme": series.name,
        "rounds": f"{last.round:.0f}",
        "bytes up": size(last.bytes_up),
        "bytes down": size(last.bytes_down),
        "ratio": times(last.ratio),
        "train loss": spread(last.train_loss, None, digits=3),
        "test loss": spread(last.test_loss, None, digits=3),
        **{m.title: m.text(getattr(last, m.column), deviations[m]) for m in measured},
        "time": NOTHING if math.isnan(series.seconds) else f"{series.seconds:.0f} s",
    }
