"""A training run's rows, one series per scheme: how well it learns, and what it costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.report.formats import NOTHING, size, spread, times
from gradwire.report.rows import TRAIN_COLUMNS, Row, number, require
from gradwire.report.tables import Column, Table


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
    """One series per data, model and scheme, in order of appearance.

    Raises:
        GradwireError: a column is missing, or a figure is not one.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        require(row, TRAIN_COLUMNS, "a row of results")
        groups.setdefault((str(row["data"]), str(row["model"]), str(row["scheme"])), []).append(row)
    varying = [index for index in (0, 1) if len({key[index] for key in groups}) > 1]
    return [_series(" · ".join([*(key[i] for i in varying), key[2]]), group) for key, group in groups.items()]


def training_table(series: Sequence[Series], brief: bool = False) -> Table:
    """What each scheme ended with: rounds, bytes, losses, and accuracy (mean ± sample std over seeds).

    Args:
        series: what `follow` gives.
        brief: leave bytes down and training loss out, so that the table fits a terminal of 80 characters.
    """
    finals = [_final(one) for one in series]
    titles = [title for title in finals[0] if not (brief and title in ("bytes down", "train loss"))]
    columns = (Column(title, numeric=title != "scheme") for title in titles)
    return Table(tuple(columns), tuple(tuple(final[title] for title in titles) for final in finals))


def _series(name: str, rows: Sequence[Row]) -> Series:
    rounds: dict[float, list[Row]] = {}
    for row in rows:
        rounds.setdefault(number(row, "round"), []).append(row)
    ordered = sorted(rounds.items())
    last = [number(row, "test_accuracy") for row in ordered[-1][1]]
    seeds = {row["seed"] for row in rows}
    return Series(
        name,
        tuple(
            SeriesPoint(*(fmean(number(row, field) for row in group) for field in SeriesPoint._fields))
            for _, group in ordered
        ),
        seeds=len(seeds),
        accuracy_std=stdev(last) if len(last) > 1 else None,
        seconds=fmean(max(number(row, "seconds") for row in rows if row["seed"] == seed) for seed in sorted(seeds)),
    )


def _final(series: Series) -> dict[str, str]:
    last = series.points[-1]
    deviation = None if series.accuracy_std is None else 100 * series.accuracy_std
    accuracy = spread(100 * last.test_accuracy, deviation, digits=1)
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
