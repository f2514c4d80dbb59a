"""The runner of a study: every cell is an ordinary run in a folder of its own, called by what decides it.

A finished cell is never run again, whatever study it is of; one that was cut goes on, or begins again; one that failed
is a row with its error, and is tried again when the study is gone on with.
"""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from gradwire.errors import GradwireError, at_least, in_line
from gradwire.progress import Progress, silent
from gradwire.runs import (
    CELLS,
    CLAIMS,
    CONFIG,
    RESULTS,
    Row,
    RunFolder,
    check_place,
    default_place,
    read_table,
    write_table,
)
from gradwire.studies.cells import COMMANDS, Command
from gradwire.studies.claims import judge
from gradwire.studies.plan import Study, StudyCell
from gradwire.studies.workers import run_each

OWN = ("command", "label", "cell", "failed")
"""The columns that a study's table has before those of its cells."""
ERROR, COST = "error.txt", "seconds.txt"


def key_of(cell: StudyCell, commands: Mapping[str, Command] = COMMANDS) -> str:
    """The name of a cell's folder: the command, and a digest of all that decides what it finds, defaults included.

    Raises:
        GradwireError: a command that is none, a setting that it does not have, or a value that it refuses.
    """
    if cell.command not in commands:
        raise GradwireError(f"a cell of command {cell.command!r} cannot be run; known: {', '.join(commands)}")
    decides = [commands[cell.command].resolved(cell.settings), version("gradwire"), version("torch")]
    digest = hashlib.sha256(json.dumps([cell.command, *decides], sort_keys=True, default=str).encode())
    return f"{cell.command}-{digest.hexdigest()[:12]}"


def keys_of(study: Study, commands: Mapping[str, Command] = COMMANDS) -> list[str]:
    """The key of each cell of a study; `GradwireError` for a cell that cannot be run, or is there twice."""
    if not study.cells:
        raise GradwireError(f"study {study.name} has no cells at scale {study.scale}")
    keys = [key_of(cell, commands) for cell in study.cells]
    seen: set[tuple[str, str]] = set()
    for cell, key in zip(study.cells, keys, strict=True):
        if (key, filed := cell.filed({})) in seen:
            raise GradwireError(f"two cells are called {filed!r} and have the same settings; one is too many")
        seen.add((key, filed))
    return keys


def run_study(
    study: Study,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int = 1,
    engine: str = "",
    progress: Progress = silent,
    commands: Mapping[str, Command] = COMMANDS,
) -> Path:
    """Run what is not yet finished of a study, and return its folder.

    The folder holds results.csv (the rows of all finished cells), claims.csv once all are, and cells/, a run each.

    Args:
        out: the folder to write; `resume`: the folder of an earlier run of it, at any scale, to go on with instead.
        jobs: cells at a time; `engine`: where they run instead (see `run_each`).

    Raises:
        GradwireError: cells that cannot be run or told apart, a folder that holds another study.
    """
    check_place(out, resume)
    at_least(1, jobs=jobs)
    keys = keys_of(study, commands)
    place = _begin(study, out, resume)
    folder = (place / CELLS).resolve()  # workers elsewhere begin in folders of their own
    waiting = {key: cell for key, cell in zip(keys, study.cells, strict=True) if not (folder / key).exists()}
    tasks = [(commands[cell.command], cell.settings, folder / key) for key, cell in waiting.items()]
    known: dict[str, list[Row]] = {}
    done = len(set(keys)) - len(waiting)
    progress("cells", done, len(set(keys)))
    try:
        for _ in run_each(_run, tasks, jobs, engine):
            done += 1
            progress("cells", done, len(set(keys)))
            _write(place / RESULTS, _rows(study, keys, folder, known))
    except BrokenProcessPool:
        raise GradwireError(f"a worker was killed (by want of memory?); go on with --resume {place}") from None
    rows = _rows(study, keys, folder, known)
    if not all((folder / key).exists() or (folder / f"{key}.failed").exists() for key in keys):
        raise GradwireError(f"cells ended and are not in {folder}; workers of {engine} must share that folder")
    _write(place / RESULTS, rows)
    about = {name: " ".join(sorted({row.get(name, "") for row in rows} - {""})) for name in ("data", "model")}
    origin = {"study": study.name, "scale": study.scale, **about, **_origin(place)}
    judged = [{**asdict(each), **origin} for each in judge(study.claims, rows, study.scale)]
    write_table(place / CLAIMS, list(judged[0]) if judged else ("id",), judged)
    return place


def _begin(study: Study, out: str | Path | None, resume: str | Path | None) -> Path:
    """The folder of the study, with its config.json."""
    settings = {"study": study.name, "scale": study.scale}
    if resume:
        run = RunFolder(Path(resume), OWN)
        if not run.path.is_dir():
            raise GradwireError(f"--resume {resume} is no folder of a study")
        if (run.path / CONFIG).is_file():
            run.check("study", {"study": study.name})
    else:
        place = out or default_place(f"study-{study.name.partition(':')[0]}")
        run = RunFolder.create(place, "study", OWN, resumes=True)
    run.configure("study", settings, title=study.title, show=list(study.show), source=study.source)
    return run.path


def _run(command: Command, settings: Mapping[str, object], folder: Path) -> None:
    """Run one cell, in a folder that is called `….unfinished` until it has ended; an error is kept beside it."""
    unfinished, failed = (folder.with_name(f"{folder.name}.{state}") for state in ("unfinished", "failed"))
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(failed, ignore_errors=True)
    started = time.perf_counter()
    try:
        command(settings, unfinished)
        (unfinished / COST).write_text(f"{time.perf_counter() - started:.1f}\n")
        unfinished.rename(folder)
    except Exception as error:  # whatever a cell raises, the others go on
        failed.mkdir(exist_ok=True)
        (failed / ERROR).write_text(f"{type(error).__name__}: {in_line(error)}\n")


def _rows(study: Study, keys: Sequence[str], folder: Path, known: dict[str, list[Row]]) -> list[Row]:
    """The rows of all cells that ended, in the order of the grid; `known` keeps what was read."""
    rows: list[Row] = []
    for cell, key in zip(study.cells, keys, strict=True):
        given = {name: value for name, value in cell.settings.items() if isinstance(value, str | int | float)}
        own = {"command": cell.command, "cell": key, "failed": ""}
        failed = folder / f"{key}.failed" / ERROR
        if key not in known and (folder / key).exists():
            known[key] = list(read_table(folder / key / RESULTS))
        for row in known.get(key, ()):
            rows.append({**own, "label": cell.filed(row), **given, **row})
        if key not in known and failed.exists():
            rows.append({**own, "label": cell.filed({}), **given, "failed": failed.read_text().strip()})
    return rows


def _write(path: Path, rows: Sequence[Row]) -> None:
    """A table with the columns of all rows."""
    write_table(path, list(dict.fromkeys([*OWN, *(name for row in rows for name in row)])), rows)


def _origin(place: Path) -> dict[str, str]:
    """On what, by which versions and when a study was run: what a committed table says of itself."""
    config = json.loads((place / CONFIG).read_text())
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    told = {name: str(config[name]) for name in ("machine", "gradwire", "torch")}
    return told | {"date": config["started"][:10], "commit": commit}


def seconds_of(place: Path, keys: Sequence[str]) -> dict[str, float]:
    """Key → what a finished cell took, in seconds."""
    found = {key: place / CELLS / key / COST for key in keys}
    return {key: float(path.read_text()) for key, path in found.items() if path.is_file()}
