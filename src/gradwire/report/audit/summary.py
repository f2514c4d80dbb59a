"""An audit's rows, summarised cell by cell: how much leaked, and what it cost; and the table of these summaries."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.errors import GradwireError, unknown
from gradwire.report.formats import NOTHING, percent, plural, size, spread, times
from gradwire.report.rows import AUDIT_COLUMNS, BASELINE, Row, group_by, mean, number, yes
from gradwire.report.tables import Table

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
    """One cell: the means over every victim (of every seed) of one scheme under one attack.

    Attributes:
        knowledge: "naive" or "adaptive". victims: number of rows.
        ssim_std: sample standard deviation (n − 1) over victims; None for one victim.
        percent_of_none: 100 · SSIM ÷ SSIM of scheme `none` in the same setting, under the knowledge that does best
            against `none`; None where there is no such row, or where nothing leaks from `none` either.
        psnr: in dB. success: share of victims with SSIM ≥ 0.6, from 0 to 1.
        bytes_up: what a victim sent in the round. ratio: dense float32 bytes ÷ bytes_up.
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
    """What one scheme leaks to an adversary that ignores the scheme, and to one that uses it."""

    setting: Setting
    scheme: str
    naive: Summary | None
    adaptive: Summary | None

    @property
    def present(self) -> list[Summary]:
        """The summaries that are not None, naive first; never empty."""
        return [summary for summary in (self.naive, self.adaptive) if summary is not None]


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One summary per setting, scheme and knowledge, in order of appearance.

    Raises:
        GradwireError: a column is missing, a figure is not one, or knowledge is neither naive nor adaptive.
    """
    summaries = [_cell(*key, cell) for key, cell in group_by(rows, AUDIT_COLUMNS, _key).items()]
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


def leakage_table(summaries: Sequence[Summary], brief: bool = False) -> Table:
    """Scheme, bytes up and ratio; SSIM (mean ± sample std, and per cent of `none`) naive and adaptive; success.

    Data, model, attack, adversary, mode and batch get a column where they differ between the summaries. `brief` leaves
    out the success (share of victims with SSIM ≥ 0.6, naive / adaptive), so that the table fits 80 characters.
    """
    pairs = pair(summaries)
    varying = labels(p.setting for p in pairs)
    lines = [
        {
            **varying[p.setting],
            "scheme": p.scheme,
            "bytes up": size(p.present[-1].bytes_up),
            "ratio": times(p.present[-1].ratio),
            "naive SSIM": _similarity(p.naive),
            "adaptive SSIM": _similarity(p.adaptive),
            "success": f"{_success(p.naive)} / {_success(p.adaptive)}",
        }
        for p in pairs
    ]
    return Table.of(lines, (*Setting._fields, "scheme"), _note(summaries, brief), ("success",) if brief else ())


def _note(summaries: Sequence[Summary], brief: bool) -> str:
    from gradwire.metrics import SUCCESS

    counts = [summary.victims for summary in summaries]
    fewest, most = min(counts), max(counts)
    victims = plural(most, "victim") if fewest == most else f"{fewest} to {most} victims"
    shares = "" if brief else f" Success: share of victims with SSIM ≥ {SUCCESS}, naive / adaptive."
    return f"SSIM: mean ± sample standard deviation over {victims}, and per cent of what none leaks.{shares}"


def _similarity(summary: Summary | None) -> str:
    if summary is None:
        return NOTHING
    # Padded to the width of 100 %, so that means stand under means.
    return f"{spread(summary.ssim, summary.ssim_std)} ({percent(summary.percent_of_none):>5})"


def _success(summary: Summary | None) -> str:
    return NOTHING if summary is None else percent(100 * summary.success)


def _key(row: Row) -> tuple[Setting, str, str]:
    batch, knowledge = number(row, "batch"), str(row["knowledge"])
    if not batch.is_integer():
        raise GradwireError(f"column batch of {row['scheme']} holds {row['batch']!r}; it should be a whole number")
    if knowledge not in KNOWLEDGE:
        raise unknown("knowledge", knowledge, KNOWLEDGE)
    data, model, attack, adversary, mode = (str(row[field]) for field in Setting._fields[:-1])
    return Setting(data, model, attack, adversary, mode, int(batch)), str(row["scheme"]), knowledge


def _cell(setting: Setting, scheme: str, knowledge: str, rows: Sequence[Row]) -> Summary:
    return Summary(
        setting,
        scheme,
        knowledge,
        victims=len(rows),
        ssim_std=stdev(number(row, "ssim") for row in rows) if len(rows) > 1 else None,
        percent_of_none=None,
        success=fmean(yes(row, "success") for row in rows),
        **{column: mean(rows, column) for column in ("ssim", "psnr", "mse", "bytes_up", "ratio")},
    )


def _percent(summary: Summary, summaries: Sequence[Summary]) -> float | None:
    baseline = [s.ssim for s in summaries if s.scheme == BASELINE and s.setting == summary.setting]
    best = max(baseline, default=math.nan)
    return 100 * summary.ssim / best if best > 0 else None
