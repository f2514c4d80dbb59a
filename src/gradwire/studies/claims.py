"""What is claimed of a finished grid: a sentence, a test, and a verdict that says no more than the test does.

Every predicate is a region that a figure, or the difference of two, must lie in. A claim holds where the whole interval
of every comparison lies in it, does not hold where one interval lies outside (at the level divided by the number of
comparisons), and is left open otherwise: "not significantly different" is no evidence of being alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf, isfinite
from statistics import fmean
from typing import Any

from gradwire import papers
from gradwire.errors import GradwireError, check_keys, check_words
from gradwire.metrics.differences import bootstrap, newcombe, share, welch
from gradwire.metrics.intervals import Figure
from gradwire.report.measures import PER_CENT
from gradwire.report.study.shown import ended, selected
from gradwire.spec_syntax import check_fits, parameters
from gradwire.studies.verdicts import TOO_SHORT

HOLDS, FAILS, OPEN, UNTESTABLE = "holds", "does not hold", "cannot tell", "not testable here"
PREDICATES = ("alike", "below", "within", "above", "at chance")
NOTHING = Figure(0.0, -inf, inf)
TESTS = ("welch", "newcombe", "bootstrap", "interval")
Row = Mapping[str, str]
Filter = Mapping[str, Any]


@dataclass(frozen=True)
class ClaimSpec:
    """A sentence about a grid, and how it is judged.

    Attributes:
        id: of the claim in the paper's list, which has the sentence and its source; or `says` and `source`.
        name: what other claims call it whose control it is.
        value: the column compared; shares and accuracies count in points of a per cent.
        where: what all rows have: column → value, or a list of values; `topk` stands for all specs that begin with it.
        of: what those on the left have beside it; `than`, what those on the right have instead: one, or several, each
            a comparison. `compare`: pairs of both in their place.
        each: columns; the claim is about every combination of values that the left rows have in them.
        predicate: `is` in a file. alike: within `margin` of the other, or of the published figure where there is none;
            below and above: by more than `margin` (which may be negative); within: in `between`; at chance: within
            `margin` of `chance`.
        test: welch over seeds or victims; newcombe for shares of successes; bootstrap over victims; interval, where
            rows have the figure's own ends (`auc_low`, or `low`).
        level: of the test, two-sided.
        published: {table = …, figure = …} of the source: shown where the paper has a figure for the very setting.
        controls: claims without which this one tells nothing.
        searched: a low figure counts as protection only where no search was too short.
        anywhere: whether it is about no data or network, so that the smallest scale can tell.
        lacks: what is not at hand; without a `value`, or where no row has one, the claim is not testable then.
    """

    id: str = ""
    says: str = ""
    source: str = ""
    name: str = ""
    value: str = ""
    where: Filter = field(default_factory=dict, hash=False)
    of: Filter = field(default_factory=dict, hash=False)
    than: Any = field(default=None, hash=False)
    compare: Sequence[Any] = field(default=(), hash=False)
    best: str = ""
    each: Sequence[str] = field(default=(), hash=False)
    predicate: str = "above"
    margin: float = 0.0
    between: Sequence[float] = field(default=(), hash=False)
    chance: float = 0.0
    test: str = "welch"
    level: float = 0.05
    published: Mapping[str, str] = field(default_factory=dict, hash=False)
    controls: Sequence[str] = field(default=(), hash=False)
    searched: bool = False
    anywhere: bool = False
    lacks: str = ""
    paper: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that it speaks of."""
        others = self.than if isinstance(self.than, list) else [self.than]
        sides = [self.where, self.of, *others, *(side for pair in self.compare for side in pair)]
        named = [key for side in sides if side for key in side]
        return tuple(dict.fromkeys([self.value, *named, *self.each, *filter(None, [self.best])]))

    @classmethod
    def of_file(cls, what: str, content: Mapping[str, Any], paper: str) -> "ClaimSpec":
        """The claim that a table of a file holds; `paper` has its sentence.

        Raises:
            GradwireError: a predicate, a test or an id that there is none of, or no sentence.
        """
        check_keys(f"{what}, claims", content, KEYS)
        given = {("predicate" if key == "is" else key): value for key, value in content.items()} | {"paper": paper}
        kind: Any = cls
        check_fits(f"{what}, claims", given, parameters(kind))
        claim = cls(**given)
        if claim.id:
            said = papers.claims(paper).get(claim.id) if paper else None
            if said is None:
                raise GradwireError(f"{what}: source {paper!r} has no claim {claim.id!r}")
            given = {"says": said["claim"], "source": said["where"]} | given
            claim = cls(**given)
        if not claim.says:
            raise GradwireError(f"{what}: a claim needs an id or says")
        if not claim.lacks and not claim.value:
            raise GradwireError(f"{what}, claim {claim.id or claim.says!r}: it needs a value, the column compared")
        check_words(claim, predicate=PREDICATES, test=TESTS)
        if claim.predicate in ("alike", "at chance") and not claim.margin > 0 and not claim.lacks:
            raise GradwireError(f"{what}, claim {claim.id or claim.says!r}: {claim.predicate!r} needs a margin above 0")
        return claim


KEYS = ("is", *(each.name for each in fields(ClaimSpec) if each.name not in ("predicate", "paper")))


@dataclass(frozen=True)
class JudgedClaim:
    """A claim beside what was measured: the comparison that decided, its interval, and the verdict with its reason."""

    id: str
    says: str
    source: str
    published: str
    measured: str
    low: str
    high: str
    verdict: str
    why: str


@dataclass(frozen=True)
class _Compared:
    """One comparison of a claim: the published figure, both intervals, and the region; `why`: it could not be made."""

    published: float | None = None
    mean: tuple[float, ...] = ()
    interval: Figure = NOTHING
    strict: Figure = NOTHING
    region: tuple[float, float] = (-inf, inf)
    short: int = 0
    why: str = ""

    @property
    def inside(self) -> bool:
        return self.region[0] < self.interval.low and self.interval.high < self.region[1]

    @property
    def outside(self) -> bool:
        return self.strict.high < self.region[0] or self.strict.low > self.region[1]

    @property
    def room(self) -> float:
        """By how much the interval is inside its region; negative outside."""
        return min(self.interval.low - self.region[0], self.region[1] - self.interval.high)


def judge(claims: Sequence[ClaimSpec], rows: Sequence[Row], scale: str = "desk") -> list[JudgedClaim]:
    """All claims of a study over the rows of its finished cells; at `smoke` none of a paper's data or networks."""
    counted = list(ended(rows))
    every = [*counted, *(row for row in rows if row.get("failed"))]
    found = {claim: _judged(claim, counted, every) for claim in claims}
    verdicts = {reference: made.verdict for claim, made in found.items() for reference in (claim.id, claim.name)}
    judged = []
    for claim, made in found.items():
        broken = [f"its control {c!r}: {verdicts[c]}" for c in claim.controls if verdicts[c] != HOLDS]
        if scale == "smoke" and claim.id and not claim.anywhere:
            broken = ["smoke shows that the study runs, and nothing of the paper's data"]
        stands = made.verdict not in (HOLDS, FAILS) or not broken
        judged.append(made if stands else replace(made, verdict=OPEN, why="; ".join(broken)))
    return judged


def _judged(claim: ClaimSpec, rows: Sequence[Row], every: Sequence[Row]) -> JudgedClaim:
    """The verdict of a claim on its own, without its controls."""

    def told(verdict: str, why: str, measured: str = "", shown: _Compared | None = None) -> JudgedClaim:
        ends = ("", "") if shown is None else (f"{shown.interval.low:.4g}", f"{shown.interval.high:.4g}")
        paper = "" if shown is None or shown.published is None else f"{shown.published:.4g}"
        return JudgedClaim(claim.id, claim.says, claim.source, paper, measured, *ends, verdict, why)

    if claim.lacks and not any(row.get(claim.value) for row in selected(every, claim.where)):
        return told(UNTESTABLE, claim.lacks)
    for column in claim.columns if every else ():
        if not any(column in row for row in every):
            return told(OPEN, f"no row has the column {column!r}")
    pairs = list(_pairs(claim, every))
    made = [_compared(claim, *pair, rows, len(pairs)) for pair in pairs]
    if missing := [each.why for each in made if each.why]:
        why = f"{len(missing)} of {len(made)} comparisons: {missing[0]}"
    good = [each for each in made if not each.why]
    if not good:
        return told(OPEN, missing[0] if missing else "not run at this scale")
    worst = min(good, key=lambda each: each.room)
    measured = " against ".join(f"{value:.4g}" for value in worst.mean)
    if len(made) > 1:
        measured += f", the weakest of {len(made)}; {sum(each.inside for each in good)} hold"
    if any(each.outside for each in good):
        return told(FAILS, "", measured, worst)
    if missing:
        return told(OPEN, why, measured, worst)
    if not all(each.inside for each in good):
        alone = "one run does not tell how much it varies; add seeds or victims"
        why = "the interval reaches over the limit" if isfinite(worst.interval.low) else alone
        return told(OPEN, why, measured, worst)
    if claim.searched and any(each.short for each in good):
        return told(OPEN, f"{sum(each.short for each in good)} searches were too short", measured, worst)
    return told(HOLDS, "", measured, worst)


def _pairs(claim: ClaimSpec, rows: Sequence[Row]) -> Iterator[tuple[Filter, Filter | None]]:
    """The filters of both sides of every comparison; None on the right where a figure stands alone."""
    others = claim.than if isinstance(claim.than, list) else [claim.than]
    for of, than in claim.compare or [(claim.of, other) for other in others]:
        left = {**claim.where, **of}
        about = [row for row in rows if all(_may_be(row, key, value) for key, value in left.items())]
        for chosen in dict.fromkeys(tuple(row.get(key, "") for key in claim.each) for row in about or [{}]):
            ours = left | dict(zip(claim.each, chosen, strict=True))
            yield ours, None if than is None else {**ours, **than}


def _may_be(row: Row, key: str, wanted: object) -> bool:
    """Whether a row has a value; a cell that failed may have any where it says none, lest claims pass over it."""
    return papers.matches(row.get(key, ""), wanted) or bool(row.get("failed") and not row.get(key))


def _compared(claim: ClaimSpec, left: Filter, right: Filter | None, rows: Sequence[Row], number: int) -> _Compared:
    sides = [_best(claim, selected(rows, wanted)) for wanted in (left, right) if wanted is not None]
    figures = []
    for side in sides:
        units: dict[object, Row] = {}
        for row in side:
            unit = row.get("seed", ""), row.get("victim", ""), row.get("layer", "")
            if row.get(claim.value, "") == "":
                continue
            if unit in units:
                return _Compared(why=f"several rows of seed {unit[0]} are meant: {_apart(units[unit], row)}")
            units[unit] = row
        if not units:
            return _Compared(why="not run at this scale")
        scale = 100 if claim.value in PER_CENT else 1
        figures.append({unit: scale * float(row[claim.value]) for unit, row in units.items()})
    published = [_published(claim, side) for side in sides]
    paper = None
    if all(each is not None for each in published):
        paper = sum(sign * each for sign, each in zip((1, -1), published, strict=False) if each is not None)
    region = _region(claim, None if right is not None else paper)
    if region is None:
        return _Compared(why="the paper has no figure for this setting")
    interval, strict = (_interval(claim, figures, sides, level) for level in (claim.level, claim.level / number))
    lower = {"below": sides[:1], "above": sides[1:]}.get(claim.predicate, sides)
    short = sum(row.get("verdict") == TOO_SHORT for side in lower for row in side)
    means = tuple(sum(units.values()) / len(units) for units in figures)
    return _Compared(paper, means, interval, strict, region, short)


def _apart(one: Row, other: Row) -> str:
    """The first column that tells two rows apart, but for what is measured in any run."""
    for name, value in one.items():
        if value != other.get(name, "") and name not in ("cell", "seconds"):
            return f"their {name} is {value or 'empty'} and {other.get(name) or 'empty'}"
    return "they are equal"


def _best(claim: ClaimSpec, side: Sequence[Row]) -> Sequence[Row]:
    """The rows of the value of `best` at which the figure is highest on the mean; all where nothing is swept."""
    swept: dict[str, list[Row]] = {}
    for row in side:
        if row.get(claim.value, "") != "":
            swept.setdefault(row.get(claim.best, ""), []).append(row)
    if not claim.best or not swept:
        return side
    means = {value: fmean(float(row[claim.value]) for row in found) for value, found in swept.items()}
    return swept[max(means, key=lambda value: means[value] if isfinite(means[value]) else -inf)]


def _published(claim: ClaimSpec, side: Sequence[Row]) -> float | None:
    if not claim.published:
        return None
    figure = claim.published.get("figure", claim.value)
    found = papers.published(claim.paper, claim.published["table"], figure, side)
    return None if found is None else found * (100 if figure in PER_CENT else 1)


def _region(claim: ClaimSpec, paper: float | None) -> tuple[float, float] | None:
    """Where the figure must lie; None where that takes a published figure, and there is none."""
    if claim.predicate == "within":
        return claim.between[0], claim.between[1]
    if claim.predicate == "at chance":
        return claim.chance - claim.margin, claim.chance + claim.margin
    if claim.predicate == "alike":
        alone = claim.than is None and not claim.compare
        if alone and paper is None:
            return None
        middle = paper if alone and paper is not None else 0.0
        return middle - claim.margin, middle + claim.margin
    return (-inf, -claim.margin) if claim.predicate == "below" else (claim.margin, inf)


def _interval(
    claim: ClaimSpec, figures: Sequence[Mapping[object, float]], sides: Sequence[Sequence[Row]], level: float
) -> Figure:
    if claim.test == "bootstrap":
        return bootstrap(*figures, level=level)
    if claim.test == "welch":
        return welch(*(list(units.values()) for units in figures), level=level)
    scale = 100 if claim.value in PER_CENT else 1
    if claim.test == "newcombe":
        parts = [share([value / scale for value in units.values()], level) for units in figures]
    elif any(len(side) > 1 for side in sides):
        return welch(*(list(units.values()) for units in figures), level=level)
    else:
        own = [f"{claim.value}_{end}" if f"{claim.value}_{end}" in sides[0][0] else end for end in ("low", "high")]
        parts = [Figure(*(float(side[0][name] or "nan") for name in (claim.value, *own))) for side in sides]
    return newcombe(*(Figure(*(scale * value for value in part)) for part in parts))
