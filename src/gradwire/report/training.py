"""The report of a training run: one series per scheme, how well it learns, and what that costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain, ticks
from gradwire.report.formats import NOTHING, part, size, spread, times
from gradwire.report.measures import LOSS, words
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, TRAIN_FACTS, Row, by_scheme, group_by, mean, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

NOTE = (
    "Bytes are the lengths of the serialised messages, headers included, summed from the first round on; the ratio is "
    "the size of the dense float32 updates over the bytes up. Figures are those of the last evaluation, not of the "
    "best; with several seeds, the mean ± sample standard deviation."
)


def training_page(run: Run) -> Page:
    """Where each scheme ended, how it came there, and every evaluation."""
    series = follow(run.rows)
    curves = Section(
        "training",
        "Learning, by round and by bytes",
        draw=lambda theme: training_figure(series, theme),
        says=f"{' and '.join(['Loss', *(words(name).title for name in measures(series))])} against rounds and "
        "against bytes sent up, one line per scheme; the table above holds the last figures.",
    )
    return Page(
        "What training cost, and how well it went",
        (Section("summary", "Where each scheme ended", training_table(series), note=NOTE), curves),
        headline(series),
        template="training.html.j2",
        content={"series": series, "measures": {name: words(name) for name in measures(series)}},
    )


class SeriesPoint(NamedTuple):
    """One evaluation, a mean over seeds. Bytes are counted from the first round on; NaN where not measured.

    `measured` is the figure of the series' measure.
    """

    round: float
    bytes_up: float
    bytes_down: float
    ratio: float
    train_loss: float
    test_loss: float
    measured: float


@dataclass(frozen=True)
class Series:
    """The evaluations of one scheme on one data set and model, by rising round.

    Attributes:
        name: the scheme, after data and model where the run has several of them.
        points: the evaluations, each a mean over the seeds that reached that round.
        measure: what the task reports beside the loss: accuracy, absolute_error; "" for nothing.
        seeds: number of seeds. measured_std: sample standard deviation of its last figure; None for one seed.
        seconds: mean time of a seed.
    """

    name: str
    points: tuple[SeriesPoint, ...]
    measure: str
    seeds: int
    measured_std: float | None
    seconds: float


def follow(rows: Iterable[Row]) -> list[Series]:
    """One series per data, model and scheme, in order of appearance; `GradwireError` for a bad column or cell."""
    return [_series(name, group) for name, group in by_scheme(rows, TRAIN_FACTS)]


def measures(series: Sequence[Series]) -> list[str]:
    """What the series' tasks report, each once."""
    return list(dict.fromkeys(one.measure for one in series if one.measure))


def training_table(series: Sequence[Series], brief: bool = False) -> Table:
    """What each scheme ended with: rounds, bytes, losses, and the task's measure (mean ± sample std over seeds).

    `brief` leaves out bytes down and training loss, so that the table fits 80 characters.
    """
    lines = [_final(one, measures(series)) for one in series]
    return Table.of(lines, ("scheme",), without=("bytes down", "train loss") if brief else ())


def headline(series: Sequence[Series]) -> str | None:
    """What the scheme with the best last figure reaches and costs, beside `none`; None if nothing compares."""
    named = {one.name: one.points[-1] for one in series}
    baseline = named.pop(BASELINE, None)
    if baseline is None or not named or len({one.measure for one in series}) > 1:
        return None
    measure = words(series[0].measure)
    if series[0].measure and measure.higher is not None:
        before, figures = baseline.measured, {name: last.measured for name, last in named.items()}
    else:
        measure, before = LOSS, baseline.test_loss
        figures = {name: last.test_loss for name, last in named.items()}
    name = (max if measure.higher else min)(figures, key=figures.__getitem__)
    reached = f"{name} reaches {measure.noun(figures[name])}"
    return f"At {part(named[name].ratio)}, {reached}; plain SGD reaches {measure.text(before)}"


def training_figure(series: Sequence[Series], theme: Theme = LIGHT) -> Figure:
    """Test loss (faint: training loss) and the tasks' measures, against rounds and against bytes sent up."""
    reported = measures(series)
    figure, axes = panels(theme, 1 + len(reported), 2, width=5.2, height=3.4)
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
            if one.measure:
                ax = axes[2 * (1 + reported.index(one.measure)) + column]
                ax.plot(x, [words(one.measure).factor * p.measured for p in points], **clear)
    every = [point.bytes_up for one in series for point in one.points if point.bytes_up > 0]
    # Within a decade a logarithmic axis may have no tick at all.
    wide = bool(every) and max(every) >= 10 * min(every)
    for column, label in enumerate(("rounds", "bytes sent up (log scale)" if wide else "bytes sent up")):
        axes[column].set_ylabel("loss: test, and training (faint)")
        for row, measure in enumerate(reported, start=1):
            axes[2 * row + column].set_ylabel(words(measure).caption)
        axes[column - 2].set_xlabel(label)
    for ax in axes[1::2]:
        ax.set_xscale("log" if wide else "linear")
        ticks(ax.xaxis, size)
    handles, names = axes[0].get_legend_handles_labels()
    legend(figure, theme, handles=handles, labels=names, loc="outside lower center", ncols=min(3, len(series)))
    return figure


def _series(name: str, rows: Sequence[Row]) -> Series:
    ordered = sorted(group_by(rows, (), lambda row: number(row, "round")).items())
    seeds = group_by(rows, (), lambda row: str(row["seed"])).values()
    own = [name for name in rows[0] if name.startswith("test_") and name != "test_loss"]
    column = next((name for name in own if any(row[name] != "" for row in rows)), "")
    last = [number(row, column) for row in ordered[-1][1]] if column else []
    return Series(
        name,
        tuple(_point(group, column) for _, group in ordered),
        column.removeprefix("test_"),
        seeds=len(seeds),
        measured_std=stdev(last) if len(last) > 1 else None,
        seconds=fmean(max(number(row, "seconds") for row in group) for group in seeds),
    )


def _point(rows: Sequence[Row], column: str) -> SeriesPoint:
    shared = {field: mean(rows, field) for field in SeriesPoint._fields if field != "measured"}
    return SeriesPoint(**shared, measured=mean(rows, column) if column else math.nan)


def _final(series: Series, reported: Sequence[str]) -> dict[str, str]:
    """Heading → cell."""
    last = series.points[-1]
    own = {series.measure: (last.measured, series.measured_std)}
    figures = {name: own.get(name, (math.nan, None)) for name in reported}
    return {
        "scheme": series.name,
        "rounds": f"{last.round:.0f}",
        "bytes up": size(last.bytes_up),
        "bytes down": size(last.bytes_down),
        "ratio": times(last.ratio),
        "train loss": spread(last.train_loss, None, digits=3),
        "test loss": spread(last.test_loss, None, digits=3),
        **{words(name).title: words(name).text(*figure) for name, figure in figures.items()},
        "time": NOTHING if math.isnan(series.seconds) else f"{series.seconds:.0f} s",
    }
