"""Studies by spec, and a grid of one's own from a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from gradwire.errors import GradwireError
from gradwire.registry import STUDIES
from gradwire.studies.grid import Row, Study, StudyCell

SEVERAL = ("audit", "membership")
"""The commands whose cells may have rows of several schemes."""
OF_ROWS = ("schemes", "attacks", "seed")
"""What each row says of itself."""


@dataclass(frozen=True)
class OwnStudy(Study):
    """Every combination of some settings of one command.

    Attributes:
        file: where it was read from.
        command: whose settings they are.
        fixed: those that all cells share. `varied`: name → the values that it takes.
    """

    name: ClassVar[str] = "own"
    title: ClassVar[str] = "A grid of one's own"

    file: str
    command: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def cells(self) -> Sequence[StudyCell]:
        """One a combination; the label names what varies, the seed apart."""
        return [self._cell(dict(zip(self.varied, values, strict=True))) for values in product(*self.varied.values())]

    def label(self, cell: StudyCell, row: Row) -> str:
        """The cell's label; where a cell has rows of several schemes, "what the cells differ in: the row's scheme"."""
        if cell.command not in SEVERAL:
            return cell.label
        several = [name for name, values in self.varied.items() if len(values) > 1 and name not in OF_ROWS]
        group = " ".join(f"{name}={cell.settings[name]}" for name in several)
        return ": ".join(filter(None, [group, row["scheme"]]))

    def _cell(self, chosen: Mapping[str, Any]) -> StudyCell:
        named = {name: _text(value) for name, value in chosen.items() if name != "seed"}
        scheme = named.pop("scheme", "")
        label = " ".join(filter(None, [scheme, *(f"{name}={value}" for name, value in named.items())]))
        return StudyCell(label or self.command, self.command, {**self.fixed, **chosen})


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def read(path: Path) -> OwnStudy:
    """Read a grid: `command = "train"`, a table [settings] that all cells share, a table [grid] of lists.

    Raises:
        GradwireError: no such file, or one that does not hold this.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GradwireError(f"study {path} cannot be read as TOML: {error}") from None
    fixed, varied = content.get("settings", {}), content.get("grid", {})
    if not isinstance(content.get("command"), str) or not isinstance(fixed, dict) or not isinstance(varied, dict):
        raise GradwireError(f'study {path} needs command = "…", a table [settings] and a table [grid]')
    for name, values in varied.items():
        if not isinstance(values, list) or not values:
            raise GradwireError(f"study {path}: grid {name} is {values!r}; it must be a list of values")
    return OwnStudy(str(path), content["command"], fixed, varied)


def find(spec: str | Study) -> Study:
    """The study with this spec, such as `compression:epochs=2,seeds=3`, or the one in this TOML file.

    Raises:
        GradwireError: an unknown study or parameter, or a file that does not hold a grid.
    """
    if isinstance(spec, str) and spec.endswith(".toml"):
        return read(Path(spec))
    study: Study = STUDIES.parse(spec)
    return study
