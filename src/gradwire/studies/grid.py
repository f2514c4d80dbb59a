"""A study: a grid of cells, each an ordinary run in a folder of its own, and what is claimed of them together.

A finished cell is never run again, so that an interrupted study goes on where it stopped.
"""

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from gradwire.errors import GradwireError, at_least
from gradwire.progress import Progress, silent
from gradwire.registry import STUDIES
from gradwire.runs import CELLS, CLAIMS, RESULTS, RunFolder, check_place, default_place, read_table, write_table
from gradwire.studies.workers import run_each

OWN = ("command", "label")
"""The columns that a study's table has before those of its cells."""

Row = Mapping[str, str]


def file_name(text: str) -> str:
    """A text as the name of a file or folder, safe in any file system."""
    return re.sub(r"[^\w=.+-]+", "_", text)


@dataclass(frozen=True)
class StudyCell:
    """One run of a grid.

    Attributes:
        label: what its rows are filed under in tables: cells that differ in the seed alone share it.
        command: which command it is a run of, one of those in `studies.cells`.
        settings: of that command, in its own words; with "seed".
    """

    label: str
    command: str
    settings: Mapping[str, object] = field(hash=False)

    @property
    def folder(self) -> str:
        """The name of its folder, safe in any file system."""
        return file_name(f"{self.command} {self.label} {self.settings.get('seed', 0)}")


@dataclass(frozen=True)
class Claim:
    """A sentence about a grid, and what was measured.

    Attributes:
        says: the sentence. `source`, who says it: a paper's table, an expectation.
        published: the published figure, where there is one. `measured`, ours, with its scale.
        holds: whether what was measured agrees; None where it cannot tell.
    """

    says: str
    source: str
    published: str
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Study(ABC):
    """A grid of cells. Subclasses are frozen dataclasses of the scale at which it is run."""

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def cells(self) -> Sequence[StudyCell]:
        """What is run."""

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return STUDIES.spec(self)

    def label(self, cell: StudyCell, row: Row) -> str:
        """What a row of a cell is filed under in tables: by default the cell's label."""
        return cell.label

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """What is said of the finished grid, checked.

        Args:
            rows: of all cells, with "command" and "label" before the columns of the command.
        """
        return ()


Runner = Callable[[Mapping[str, object], Path], None]
"""Runs one cell of some command with these settings into this folder, which may hold an unfinished run of it."""


def run_study(
    study: Study,
    runners: Mapping[str, Runner],
    out: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Path:
    """Run what is not yet finished of a study, and return its folder.

    The folder holds results.csv (the rows of all finished cells), claims.csv once all are, and cells/, a run each.

    Args:
        runners: command → how a cell of it is run.
        out: the folder to write; `resume`: the folder of an earlier run of the same study to go on with instead.
        jobs: cells at a time (see `run_each`).

    Raises:
        GradwireError: cells that cannot be told apart, a folder that holds another study, or as a cell.
    """
    check_place(out, resume)
    cells = tuple(study.cells())
    _check(cells, runners, jobs)
    settings = {"study": study.name, **asdict(study)}
    place = out or default_place(f"study-{study.name}")
    run = RunFolder.begin(place, resume, "study", OWN, settings)
    run.configure("study", settings, title=study.title)
    folder = run.path / CELLS
    waiting = [cell for cell in cells if not (folder / cell.folder).exists()]
    done = len(cells) - len(waiting)
    progress("cells", done, len(cells))
    tasks = [(runners[cell.command], cell.settings, folder / cell.folder) for cell in waiting]
    for _ in run_each(_run, tasks, jobs):
        done += 1
        progress("cells", done, len(cells))
        _write(run.path / RESULTS, _rows(study, cells, folder))
    rows = _rows(study, cells, folder)
    _write(run.path / RESULTS, rows)
    _write(run.path / CLAIMS, [{name: str(value) for name, value in asdict(c).items()} for c in study.claims(rows)])
    return run.path


def _check(cells: Sequence[StudyCell], runners: Mapping[str, Runner], jobs: int) -> None:
    at_least(1, jobs=jobs)
    if not cells:
        raise GradwireError("a study needs at least one cell; this grid has none")
    names = [cell.folder for cell in cells]
    for cell in cells:
        if cell.command not in runners:
            raise GradwireError(f"a cell of command {cell.command!r} cannot be run; known: {', '.join(runners)}")
        if names.count(cell.folder) > 1:
            raise GradwireError(f"two cells are called {cell.folder!r}; each needs a label or a seed of its own")


def _run(runner: Runner, settings: Mapping[str, object], folder: Path) -> None:
    """Run one cell, in a folder that is called `….unfinished` until it has ended."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        runner(settings, unfinished)
    except GradwireError as error:
        raise GradwireError(f"cell {folder.name}: {error}") from None
    unfinished.rename(folder)


@dataclass(frozen=True)
class Restartable:
    """The runner of a command that may be able to go on with a run that was cut.

    Attributes:
        run: is given settings and either a folder to write or one to go on with.
        marks: what a cut run must have left for that; without any, the command always begins again.
    """

    run: Callable[[Mapping[str, object], Path | None, Path | None], None]
    marks: tuple[str, ...] = ()

    def __call__(self, settings: Mapping[str, object], folder: Path) -> None:
        """Run a cell in this folder, from where it was cut or from its beginning."""
        if self.marks and all((folder / mark).exists() for mark in self.marks):
            self.run(settings, None, folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            self.run(settings, folder, None)


def _rows(study: Study, cells: Sequence[StudyCell], folder: Path) -> list[Row]:
    """The rows of all finished cells, in the order of the grid."""
    rows: list[Row] = []
    for cell in cells:
        results = folder / cell.folder / RESULTS
        for row in read_table(results) if results.exists() else ():
            rows.append({"command": cell.command, "label": study.label(cell, row), **row})
    return rows


def _write(path: Path, rows: Sequence[Row]) -> None:
    """A table with the columns of all rows."""
    write_table(path, list(dict.fromkeys(name for row in rows for name in row)) or OWN, rows)


def counted(number: int, noun: str) -> str:
    """Such as "1 client" and "2 clients"."""
    return f"{number} {noun}{'s' * (number > 1)}"


def values(rows: Iterable[Row], column: str, **told: str) -> list[float]:
    """The values of a column in the rows that have these values in other columns."""
    return [float(row[column]) for row in rows if all(row[name] == value for name, value in told.items())]


def reached(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Label → the last test accuracy of each of its seeds, in per cent; rows are of trainings."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["label"], {}).setdefault(int(row["round"]), []).append(100 * float(row["test_accuracy"]))
    return {label: rounds[max(rounds)] for label, rounds in found.items()}
