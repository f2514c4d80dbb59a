"""A study as data: blocks of cells, what is claimed of them, and what is shown, from a TOML file.

title = "…"                     source = "trust": whose published figures and claims it refers to
like = "lmc-table3:data=cifar10"   all that it does not say itself is that study's
[[cells]]                       a block; `command`, `settings`, `grid`, … at the top are those of every block
command = "train"
label = "{data}: {scheme}"      what a row is filed under, of settings and the columns of the row
settings = {model = "mlp"}      what all cells of the block share
grid = {seed = [0, 1], scheme = ["none", {scheme = "signsgd", lr = 0.001}]}   every combination
smoke = {rounds = 4}            what that scale changes (also desk, paper); false: the block is not in it
[[claims]]                      see `ClaimSpec`
[[show]]                        a table, see `report.study.shown`
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from gradwire import papers
from gradwire.errors import GradwireError, check_keys, in_line, unknown
from gradwire.registry import STUDIES
from gradwire.report.study.shown import SHOWN
from gradwire.spec_syntax import MISSING, Parameter, check_fits, fits
from gradwire.studies.claims import ClaimSpec

SCALES = ("smoke", "desk", "paper")
"""Two minutes, an hour, and what the paper did."""
BLOCK = ("command", "label", "settings", "grid", *SCALES)
TOP = ("title", "source", "like", "cells", "claims", "show", *BLOCK)
TYPES = {
    **dict.fromkeys(("title", "source", "like", "command", "label"), Parameter(str, MISSING)),
    **dict.fromkeys(("cells", "claims", "show"), Parameter(Sequence[Mapping[str, Any]], MISSING)),
    **dict.fromkeys(("settings", "grid"), Parameter(Mapping[str, Any], MISSING)),
    **dict.fromkeys(SCALES, Parameter(Mapping[str, Any] | bool, MISSING)),
}
"""What each key of a file holds."""
MOST = 100_000
"""Cells of a block, and seeds."""
SEVERAL = ("audit", "membership")
"""Commands whose cells may have rows of several schemes; `scheme` and `attack` stand for a list of one."""
OF_ROWS = ("scheme", "schemes", "attack", "attacks", "seed")
"""What each row says of itself."""


@dataclass(frozen=True)
class StudyCell:
    """One run of a grid.

    Attributes:
        label: of its rows, with {…} for settings and the columns of a row.
        command: which command it is a run of, one of those in `studies.cells`.
        settings: of that command, in its own words.
        about: what else its label refers to.
    """

    label: str
    command: str
    settings: Mapping[str, Any] = field(hash=False)
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def filed(self, row: Mapping[str, object]) -> str:
        """What a row of it is filed under in tables."""
        try:
            return self.label.format_map(_Blank({**self.settings, **row, **self.about}))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise GradwireError(f"label {self.label!r} cannot be filled in: {in_line(error)}") from None


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


@dataclass(frozen=True)
class Study:
    """A grid of cells at one scale, what is claimed of it, and how it is shown (see `report.study.shown`)."""

    name: str
    title: str
    scale: str
    cells: tuple[StudyCell, ...] = field(hash=False)
    claims: tuple[ClaimSpec, ...] = field(default=(), hash=False)
    show: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    source: str = ""

    @classmethod
    def of(cls, name: str, content: Mapping[str, Any], scale: str = "desk", **changed: Any) -> "Study":
        """The study that a file holds.

        Args:
            changed: settings in place of its own, in every block that has them; `seeds`: how many, from 0 on.

        Raises:
            GradwireError: a key that nothing knows, a scale, command, label or claim that cannot be.
        """
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        check_keys(f"study {name}", content, TOP)
        check_fits(f"study {name}", content, TYPES)
        content = _whole(name, content)
        source = content.get("source", "")
        blocks = list(_blocks(name, content, scale, changed))
        claims = tuple(ClaimSpec.of_file(f"study {name}", each, source) for each in content["claims"])
        for each in content["show"]:
            check_keys(f"study {name}, show", each, SHOWN)
            check_fits(f"study {name}, show", each, SHOWN)
            if not each.get("values"):
                raise GradwireError(f"study {name}, show {each.get('title', '')!r}: it needs values, a list of columns")
        known = {reference for claim in claims for reference in (claim.id, claim.name)}
        for claim in claims:
            for control in claim.controls:
                if control not in known:
                    raise unknown(f"control of claim {claim.id or claim.name}", control, sorted(known - {""}))
        cells = tuple(cell for block in blocks for cell in block)
        return cls(name, content["title"], scale, cells, claims, tuple(content["show"]), source)


def _whole(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with what it takes over from the study that it is like, whose settings it may change."""
    found: dict[str, Any] = {"title": name, "claims": [], "show": []} | dict(content)
    if "like" in content:
        other, changes = parsed(content["like"])
        if other not in papers.names():
            raise unknown("study", other, papers.names())
        base = _whole(other, papers.study(other))
        base["changed"] = [*base.get("changed", ()), changes]
        found = base | dict(content)
    return found


def _blocks(name: str, content: Mapping[str, Any], scale: str, changed: Mapping[str, Any]) -> Iterator[list[StudyCell]]:
    top = {key: content[key] for key in BLOCK if key in content}
    known = {"seeds": None}
    for own in content.get("cells", [{}]):
        check_keys(f"study {name}, cells", own, BLOCK)
        check_fits(f"study {name}, cells", own, TYPES)
        block = {**top, **own}
        for key in ("settings", "grid", *SCALES):
            parts = [part for part in (top.get(key, {}), own.get(key, {})) if part is not False]
            if any(not isinstance(part, dict) for part in parts):
                raise GradwireError(f"study {name}: {key} is {parts[-1]!r}; it must be a table")
            block[key] = {k: v for part in parts for k, v in part.items()} if own.get(key) is not False else False
        if block[scale] is False:
            continue
        settings, grid = dict(block["settings"]), dict(block["grid"])
        for number, changes in enumerate((block[scale], *content.get("changed", ()), changed)):
            for key, value in changes.items():
                if key == "seeds":
                    if not fits(value, int) or not 0 < value <= MOST:
                        raise GradwireError(f"study {name}: seeds is {value!r}; it must be a number from 1 to {MOST:,}")
                    grid["seed"] = list(range(value))
                elif key in grid:
                    grid[key] = value if isinstance(value, list) else [value]
                elif key in settings or not number:
                    settings[key] = value
        known |= dict.fromkeys([*settings, *grid])
        if not isinstance(block.get("command"), str):
            raise GradwireError(f'study {name} needs command = "…", for all cells or in each of them')
        yield list(_cells(name, block["command"], block.get("label", ""), settings, grid))
    check_keys(f"study {name}", changed, known)


def _cells(
    name: str, command: str, label: str, settings: Mapping[str, Any], grid: Mapping[str, Any]
) -> Iterator[StudyCell]:
    for axis, values in grid.items():
        if not isinstance(values, list) or not values:
            raise GradwireError(f"study {name}: grid {axis} is {values!r}; it must be a list of values")
    label = label or _usual_label(command, grid)
    if (count := prod(map(len, grid.values()))) > MOST:
        raise GradwireError(f"study {name} has {count:,} cells in one block; {MOST:,} are the most")
    for values in product(*grid.values()):
        chosen = dict(settings)
        for axis, value in zip(grid, values, strict=True):
            chosen |= value if isinstance(value, dict) else {axis: value}
        about = {"label": chosen.pop("label")} if "label" in chosen else {}
        if command in SEVERAL:
            chosen |= {f"{k}s": [chosen.pop(k)] for k in ("scheme", "attack") if k in chosen}
        yield StudyCell(label, command, chosen, about)


def _usual_label(command: str, grid: Mapping[str, Sequence[Any]]) -> str:
    """A group that names what varies, and the scheme."""
    several = [axis for axis, values in grid.items() if len(values) > 1 and axis not in OF_ROWS]
    return ": ".join(filter(None, [" ".join(f"{axis}={{{axis}}}" for axis in several), "{scheme}"]))


def parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and changed settings of a spec: `compression:rounds=40,seeds=3`."""
    name, _, rest = spec.partition(":")
    changed: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise GradwireError(f"study {spec!r}: {part!r} is not of the form key=value")
        try:
            changed[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changed[key] = value
    return name, changed


def find(spec: "str | Study", scale: str = "desk") -> Study:
    """The study with this spec, such as `compression:rounds=40,seeds=3`, or the one in this TOML file.

    Raises:
        GradwireError: an unknown study, setting or scale, or a file that does not hold a study.
    """
    if isinstance(spec, Study):
        return spec
    if spec.endswith(".toml"):
        try:
            content = tomllib.loads(Path(spec).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise GradwireError(f"study {spec} cannot be read as TOML: {error}") from None
        return Study.of(Path(spec).stem, content, scale)
    name, changed = parsed(spec)
    if name in papers.names():
        return replace(Study.of(name, papers.study(name), scale, **changed), name=spec)
    if name not in STUDIES and ":" not in spec:
        raise unknown("study", name, (*papers.names(), *STUDIES))
    study: Study = STUDIES.parse(spec)
    return study
