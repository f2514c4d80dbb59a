"""An audit's rows, one figure per cell: how much leaked, and what it cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.errors import GradwireError, unknown
from gradwire.report.rows import AUDIT_COLUMNS, BASELINE, Row, number, require, yes

KNOWLEDGE = ("naive", "adaptive")


class Setting(NamedTuple):
    """What two summaries must share for their figures to be compared."""

    data: str
    model: str
    attack: str
    adversary: str
    mode: str
    batch: int


@dataclass(frozen=True)
class Summary:
    """One cell: every victim (of every seed) of one scheme under one attack.

    Attributes:
        setting: data, model, attack, adversary, mode and images per victim.
        scheme: spec of the scheme.
        knowledge: "naive" or "adaptive".
        victims: number of rows that the means are taken over.
        ssim, ssim_std: mean, and sample standard deviation (n − 1) over victims; None for one victim.
        percent_of_none: 100 · SSIM ÷ SSIM of scheme `none` in the same setting, under the knowledge that does best
            against `none`; None where there is no such row, or where nothing leaks from `none` either.
        psnr: mean, in dB. mse: mean. success: share of victims with SSIM ≥ 0.6, from 0 to 1.
        bytes_up: mean bytes that a victim sent in the round. ratio: mean of dense float32 bytes ÷ bytes_up.
    """

    setting: Setting
    scheme: str
    knowledge: str
    victims: int
    ssim: float
    ssim_std: float | None
    percent_of_none: float | None
    psnr: float
    mse: float
    success: float
    bytes_up: float
    ratio: float

    @property
    def family(self) -> str:
        """The scheme's name without its parameters: `topk` for `topk:ratio=0.01`."""
        return "+".join(spec.partition(":")[0] for spec in self.scheme.split("+"))


@dataclass(frozen=True)
class Pair:
    """Both answers to what one scheme leaks: from an adversary that ignores the scheme, and one that uses it."""

    setting: Setting
    scheme: str
    naive: Summary | None
    adaptive: Summary | None

    @property
    def present(self) -> list[Summary]:
        """The summaries that there are, naive first; never empty."""
        return [summary for summary in (self.naive, self.adaptive) if summary is not None]


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One summary per data, model, scheme, attack, knowledge, adversary, mode and batch, in order of appearance.

    Raises:
        GradwireError: a column is missing, a figure is not one, or knowledge is neither naive nor adaptive.
    """
    cells: dict[tuple[Setting, str, str], list[Row]] = {}
    for row in rows:
        require(row, AUDIT_COLUMNS, "a row of results")
        setting = Setting(
            data=str(row["data"]),
            model=str(row["model"]),
            attack=str(row["attack"]),
            adversary=str(row["adversary"]),
            mode=str(row["mode"]),
            batch=_whole(row, "batch"),
        )
        if row["knowledge"] not in KNOWLEDGE:
            raise unknown("knowledge", str(row["knowledge"]), KNOWLEDGE)
        cells.setdefault((setting, str(row["scheme"]), str(row["knowledge"])), []).append(row)
    summaries = [_cell(*key, cell) for key, cell in cells.items()]
    return [replace(summary, percent_of_none=_percent(summary, summaries)) for summary in summaries]


def pair(summaries: Iterable[Summary]) -> list[Pair]:
    """Put the naive and the adaptive summary of each scheme and setting side by side, in order of appearance."""
    found: dict[tuple[Setting, str], dict[str, Summary]] = {}
    for summary in summaries:
        found.setdefault((summary.setting, summary.scheme), {})[summary.knowledge] = summary
    return [Pair(*key, *(known.get(knowledge) for knowledge in KNOWLEDGE)) for key, known in found.items()]


def labels(settings: Iterable[Setting]) -> dict[Setting, dict[str, str]]:
    """For each distinct setting, the fields in which the settings differ: none for a run with one setting."""
    distinct = list(dict.fromkeys(settings))
    varying = [field for field in Setting._fields if len({getattr(setting, field) for setting in distinct}) > 1]
    return {setting: {field: str(getattr(setting, field)) for field in varying} for setting in distinct}


def _whole(row: Row, column: str) -> int:
    value = number(row, column)
    if not value.is_integer():
        raise GradwireError(f"column {column} of {row['scheme']} holds {row[column]!r}; it should be a whole number")
    return int(value)


def _cell(setting: Setting, scheme: str, knowledge: str, rows: Sequence[Row]) -> Summary:
    def column(name: str) -> list[float]:
        return [number(row, name) for row in rows]

    similarity = column("ssim")
    return Summary(
        setting,
        scheme,
        knowledge,
        victims=len(rows),
        ssim=fmean(similarity),
        ssim_std=stdev(similarity) if len(rows) > 1 else None,
        percent_of_none=None,
        psnr=fmean(column("psnr")),
        mse=fmean(column("mse")),
        success=fmean(yes(row, "success") for row in rows),
        bytes_up=fmean(column("bytes_up")),
        ratio=fmean(column("ratio")),
    )


def _percent(summary: Summary, summaries: Sequence[Summary]) -> float | None:
    baseline = [s.ssim for s in summaries if s.scheme == BASELINE and s.setting == summary.setting]
    best = max(baseline, default=math.nan)
    return 100 * summary.ssim / best if best > 0 else None
