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


def training_page(run: Run) -> Page:
    """Where each scheme ended, how it came there, and every evaluation."""
    series = follow(run.rows)
    curves = Section(
        "training",
        "Learning, by round and by bytes",
        draw=lambda theme: training_figure(series, theme),
        says="Loss and test accuracy against rounds and against megabytes sent up, one line per scheme; "
        "the table above holds the last figures.",
    )
    return Page(
        "What training cost, and how well it went",
        (Section("summary", "Where each scheme ended", training_table(series), note=NOTE), curves),
        headline(series),
        template="training.html.j2",
        content={"series": series},
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


@dataclass(frozen=True)
class Series:
    """The evaluations of one scheme on one data set and model, by rising round.

    Attributes:
        name: the scheme, after data and model where the run has several of them.
        points: the evaluations, each a mean over the seeds that reached that round.
        seeds: number of seeds. accuracy_std: sample standard deviation of the last accuracy; None for one seed.
        seconds: mean time of a seed.
    """

    name: str
    points: tuple[SeriesPoint, ...]
    seeds: int
    accuracy_std: float | None
    seconds: float


def follow(rows: Iterable[Row]) -> list[Series]:
    """One series per data, model and scheme, in order of appearance; `GradwireError` for a bad column or cell."""
    return [_series(name, group) for name, group in by_scheme(rows, TRAIN_COLUMNS)]


def training_table(series: Sequence[Series], brief: bool = False) -> Table:
    """What each scheme ended with: rounds, bytes, losses, and accuracy (mean ± sample std over seeds).

    `brief` leaves out bytes down and training loss, so that the table fits 80 characters.
    """
    lines = [_final(one) for one in series]
    return Table.of(lines, ("scheme",), without=("bytes down", "train loss") if brief else ())


def headline(series: Sequence[Series]) -> str | None:
    """What the scheme with the best last accuracy reaches and costs, beside `none`; None if nothing compares."""
    named = {one.name: one.points[-1] for one in series}
    baseline = named.pop(BASELINE, None)
    if baseline is None or not named:
        return None
    name, best = max(named.items(), key=lambda item: item[1].test_accuracy)
    return (
        f"At {part(best.ratio)}, {name} reaches {100 * best.test_accuracy:.1f} % test accuracy; "
        f"plain SGD reaches {100 * baseline.test_accuracy:.1f} %"
    )


def training_figure(series: Sequence[Series], theme: Theme = LIGHT) -> Figure:
    """Test loss (faint: training loss) and test accuracy in per cent, against rounds and against bytes sent up."""
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
            axes[2 + column].plot(x, [100 * p.test_accuracy for p in points], **clear)
    every = [point.bytes_up for one in series for point in one.points if point.bytes_up > 0]
    # Within a decade a logarithmic axis may have no tick at all.
    wide = bool(every) and max(every) >= 10 * min(every)
    for column, label in enumerate(("rounds", "bytes sent up (log scale)" if wide else "bytes sent up")):
        axes[column].set_ylabel("loss: test, and training (faint)")
        axes[2 + column].set(ylabel="test accuracy, %", xlabel=label)
    for ax in (axes[1], axes[3]):
        ax.set_xscale("log" if wide else "linear")
        ticks(ax.xaxis, size)
    handles, names = axes[2].get_legend_handles_labels()
    legend(figure, theme, handles=handles, labels=names, loc="outside lower center", ncols=min(3, len(series)))
    return figure


def _series(name: str, rows: Sequence[Row]) -> Series:
    ordered = sorted(group_by(rows, (), lambda row: number(row, "round")).items())
    last = [number(row, "test_accuracy") for row in ordered[-1][1]]
    seeds = group_by(rows, (), lambda row: str(row["seed"])).values()
    return Series(
        name,
        tuple(SeriesPoint(*(mean(group, field) for field in SeriesPoint._fields)) for _, group in ordered),
        seeds=len(seeds),
        accuracy_std=stdev(last) if len(last) > 1 else None,
        seconds=fmean(max(number(row, "seconds") for row in group) for group in seeds),
    )


def _final(series: Series) -> dict[str, str]:
    """Heading → cell."""
    last = series.points[-1]
    accuracy = spread(100 * last.test_accuracy, series.accuracy_std and 100 * series.accuracy_std, digits=1)
    return {
        "scheme": series.name,
        "rounds": f"{last.round:.0f}",
        "bytes up": size(last.bytes_up),
        "bytes down": size(last.bytes_down),
        "ratio": times(last.ratio),
        "train loss": spread(last.train_loss, None, digits=3),
        "test loss": spread(last.test_loss, None, digits=3),
        "test accuracy": accuracy if accuracy == NOTHING else f"{accuracy} %",
        "time": NOTHING if math.isnan(series.seconds) else f"{series.seconds:.0f} s",
    }
