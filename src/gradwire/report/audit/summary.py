"""An audit's rows, summarised cell by cell: how much leaked, and what it cost."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import NamedTuple

from gradwire.errors import GradwireError, unknown
from gradwire.report.domain import PIXELS, RunDomain
from gradwire.report.rows import AUDIT_FACTS, BASELINE, Row, group_by, mean, number, yes

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
        domain: of the inputs; it names the leading score.
        knowledge: "naive" or "adaptive". victims: number of rows.
        score: the leading one. score_std: its sample standard deviation (n − 1) over victims; None for one victim.
        scores: every score of the domain by name, NaN where not measured.
        uninformed: the leading score of an answer that knows nothing of the victims; None where there is none.
        gain: how much more was given away than such an answer gets, a mean over victims; None without one.
        clear: whether the gain is more than two of its standard errors above 0; of one victim, whether it is above 0.
        percent_of_none: 100 · gain ÷ gain of scheme `none` in the same setting, under the knowledge that does best
            against `none`, at least 0; of images, where an SSIM of 0 is nothing, 100 · SSIM ÷ SSIM. None where there
            is no such row, where nothing leaks from `none` either, and where nobody knows what knowing nothing gets.
        success: share of victims that were given away, from 0 to 1. worst: the leading score of the victim of whom
            most was given away.
        expected: the mean leading score that the attack reached on the adversary's own rounds; None where it had none.
        verdicts: how far the attack came, by `studies.verdicts`, → how many victims; without those of whom it is not
            known.
        bytes_up: what a victim sent in the round. ratio: dense float32 bytes ÷ bytes_up.
    """

    setting: Setting
    scheme: str
    knowledge: str
    domain: RunDomain
    victims: int
    score: float
    score_std: float | None
    scores: Mapping[str, float] = field(hash=False)
    uninformed: float | None
    gain: float | None
    clear: bool
    percent_of_none: float | None
    success: float
    worst: float
    expected: float | None
    verdicts: Mapping[str, int] = field(hash=False)
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

    @property
    def open(self) -> list[Summary]:
        """What somebody who knows the scheme can run: the naive attack, too. Empty where nobody who does attacked."""
        return self.present[::-1] if self.adaptive else []


def summarise(rows: Iterable[Row], domain: RunDomain = PIXELS, parts: bool = False) -> list[Summary]:
    """One summary per setting, scheme and knowledge, in order of appearance; all rows are of one domain.

    Args:
        parts: summarise the attacks that others are made of, in place of those that count.

    Raises:
        GradwireError: a column is missing, a figure is not one, or knowledge is neither naive nor adaptive.
    """
    groups = group_by((row for row in rows if is_part(row) == parts), (*AUDIT_FACTS, *domain.scores), _key)
    summaries = [_cell(*key, domain, cell) for key, cell in groups.items()]
    return [replace(summary, percent_of_none=_percent(summary, summaries)) for summary in summaries]


def is_part(row: Row) -> bool:
    """Whether a row is of an attack that another one, whose row counts, is made of: strongest/annealed."""
    return "/" in str(row.get("attack", "")).partition(":")[0]


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


def _key(row: Row) -> tuple[Setting, str, str]:
    batch, knowledge = number(row, "batch"), str(row["knowledge"])
    if not batch.is_integer():
        raise GradwireError(f"column batch of {row['scheme']} holds {row['batch']!r}; it should be a whole number")
    if knowledge not in KNOWLEDGE:
        raise unknown("knowledge", knowledge, KNOWLEDGE)
    # Only networks that distinguish training from evaluation have a mode that matters; a run may leave it out.
    data, model, attack, adversary, mode = (str(row.get(name, "")) for name in Setting._fields[:-1])
    return Setting(data, model, attack, adversary, mode, int(batch)), str(row["scheme"]), knowledge


def _cell(setting: Setting, scheme: str, knowledge: str, domain: RunDomain, rows: Sequence[Row]) -> Summary:
    leading = [number(row, domain.leading) for row in rows]
    nothing = [number(row, "uninformed") if "uninformed" in row else math.nan for row in rows]
    known = not any(map(math.isnan, nothing))
    gains = [domain.gain(score, beside) for score, beside in zip(leading, nothing, strict=True)]
    gain = fmean(gains) if known else None
    # A single figure tells nothing of its error.
    doubt = 2 * stdev(gains) / math.sqrt(len(gains)) if known and len(gains) > 1 else 0.0
    expected = [number(row, "expected") if "expected" in row else math.nan for row in rows]
    return Summary(
        setting,
        scheme,
        knowledge,
        domain,
        victims=len(rows),
        score=fmean(leading),
        score_std=stdev(leading) if len(rows) > 1 else None,
        scores={name: mean(rows, name) for name in domain.scores},
        uninformed=fmean(nothing) if known else None,
        gain=gain,
        clear=gain is not None and gain > doubt,
        percent_of_none=None,
        success=fmean(yes(row, "success") for row in rows),
        worst=domain.best(leading),
        expected=None if any(map(math.isnan, expected)) else fmean(expected),
        verdicts=Counter(verdict for row in rows if (verdict := str(row.get("verdict", "")))),
        **{column: mean(rows, column) for column in ("bytes_up", "ratio")},
    )


def _percent(summary: Summary, summaries: Sequence[Summary]) -> float | None:
    baseline = [s for s in summaries if s.scheme == BASELINE and s.setting == summary.setting]
    if summary.domain.pictures:
        best = max((s.score for s in baseline), default=math.nan)
        return 100 * summary.score / best if best > 0 else None
    leaks = [s.gain for s in baseline if s.gain is not None and s.clear]
    return 100 * max(0.0, summary.gain) / max(leaks) if leaks and summary.gain is not None else None
