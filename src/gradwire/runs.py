"""The folder of one run: results.csv, config.json, and what else a command leaves there."""

import csv
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwire.errors import GradwireError, in_line

if TYPE_CHECKING:
    from torch import Tensor

RESULTS, CLAIMS, CLIENTS = "results.csv", "claims.csv", "clients.csv"
CONFIG = "config.json"
PERMUTED, RECORDS = "permuted.csv", "records.csv"
RECONSTRUCTIONS, CURVES = "reconstructions.safetensors", "curves.safetensors"
EXAMPLES = "examples.json"
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINTS = "checkpoints"
CELLS = "cells"
Row = Mapping[str, Any]
"""A measurement: column → value, as text from a file or as the value itself."""


class RunFolder:
    """Where one run writes. Rows reach the disk as they are finished, so an interrupted run stays readable."""

    def __init__(self, path: Path, columns: Iterable[str]):
        self.path = path
        self.columns = tuple(columns)

    @classmethod
    def create(
        cls, path: str | Path | None, command: str, columns: Iterable[str], resumes: bool = False
    ) -> "RunFolder":
        """A new folder; by default runs/<command>-<time>. `resumes`: whether the command can go on with a run.

        Raises:
            GradwireError: the folder cannot be written, or holds another run.
        """
        folder = Path(path) if path else default_place(command)
        if any((folder / name).exists() for name in (RESULTS, CONFIG)):
            further = f", or go on with it: --resume {folder}" if resumes else ""
            raise GradwireError(f"--out {folder} already holds a run; name another folder{further}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run = cls(folder, columns)
            with (folder / RESULTS).open("x", newline="") as file:
                csv.writer(file).writerow(run.columns)
        except OSError as error:
            raise GradwireError(f"--out {folder} cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def reopen(cls, path: str | Path, columns: Iterable[str], keep: int) -> "RunFolder":
        """The folder of a run to continue, its results cut back to the rows up to round `keep`."""
        run = cls(Path(path), columns)
        run.rewrite([row for row in read_table(run.path / RESULTS) if int(row["round"]) <= keep])
        return run

    @classmethod
    def begin(
        cls,
        out: str | Path | None,
        resume: str | Path | None,
        command: str,
        columns: Iterable[str],
        settings: Mapping[str, object],
    ) -> "RunFolder":
        """A new folder, or with `resume` that of an earlier run of the same command and settings.

        Raises:
            GradwireError: as `create` and `check`.
        """
        if not resume:
            return cls.create(out, command, columns, resumes=True)
        run = cls(Path(resume), columns)
        run.check(command, settings)
        return run

    @property
    def checkpoints(self) -> Path:
        """The folder of what a run needs to be continued; it is there until the run has ended."""
        return self.path / CHECKPOINTS

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished rows to results.csv."""
        table = self.path / RESULTS
        with writing(table):
            whole = table.stat().st_size
            try:
                with table.open("a", newline="") as file:
                    csv.DictWriter(file, self.columns).writerows(map(self._cells, rows))
            except OSError:
                os.truncate(table, whole)  # half a row is none
                raise

    def rewrite(self, rows: Iterable[Row], name: str = RESULTS) -> None:
        """Replace what results.csv, or another table with its columns, holds by these rows."""
        write_table(self.path / name, self.columns, map(self._cells, rows))

    def check(self, command: str, settings: Mapping[str, object]) -> None:
        """Refuse to continue a run whose config.json has another command or other settings, naming what differs."""
        config = _config(self.path)
        before = config["settings"]
        now = json.loads(json.dumps(dict(settings)))
        if config["command"] != command:
            raise GradwireError(f"--resume {self.path} holds a run of {config['command']}; this is {command}")
        for name, value in now.items():
            if (had := before.get(name)) != value:
                raise GradwireError(f"--resume {self.path} has {name}={had}; this run has {name}={value}")

    def configure(
        self, command: str, settings: Mapping[str, object], notes: Iterable[str] = (), **more: object
    ) -> None:
        """Write config.json: all that is needed to run it again, notes for the reader, and what `more` there is."""
        import torch

        from gradwire.devices import machine

        config = {
            "command": command,
            **more,
            "gradwire": version("gradwire"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": machine(str(settings.get("device", "cpu"))),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "settings": dict(settings),
            "notes": list(notes),
        }
        with replacing(self.path / CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n")

    def save(self, tensors: Mapping[str, "Tensor"], name: str = RECONSTRUCTIONS) -> None:
        """Write tensors beside the table."""
        from safetensors.torch import save_file

        with writing(self.path / name):
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, self.path / name)

    def write_json(self, name: str, value: object) -> None:
        """Write a file of JSON beside the table."""
        with writing(self.path / name):
            (self.path / name).write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")

    def _cells(self, row: Row) -> dict[str, object]:
        """The row's cells; floats have nine significant digits, enough to give a float32 back."""
        return {n: f"{row[n]:.9g}" if isinstance(row[n], float) else row[n] for n in self.columns}


def default_place(name: str) -> Path:
    """Where a run is written if no folder is named: runs/<name>-<time>."""
    return Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make of a write that fails, as on a full or a read-only disk, one line that names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise GradwireError(f"{path} cannot be written: {error.strerror or error}") from None
    except SafetensorError as error:
        raise GradwireError(f"{path} cannot be written: {in_line(error)}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, whose place it takes when it is whole: a cut write leaves the file that was there.

    Raises:
        GradwireError: as `writing`.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with writing(path):
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file; what a row lacks stays empty. An interrupted write leaves the file that was there."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def check_place(out: str | Path | None, resume: str | Path | None) -> None:
    """Refuse a folder to write together with a run to continue."""
    if out and resume:
        raise GradwireError(f"--out {out} and --resume {resume} exclude each other: a resumed run writes where it did")


def begun(path: str | Path) -> dict[str, object]:
    """The settings of a run that has begun and not ended.

    Raises:
        GradwireError: the folder holds no run, or one that ended.
    """
    folder = Path(path)
    if not (folder / CHECKPOINTS).is_dir() or not (folder / CONFIG).is_file():
        what = "a run that ended" if (folder / CONFIG).is_file() else "no run"
        raise GradwireError(f"--resume {path}: the folder holds {what}; there is nothing to resume")
    return dict(_config(folder)["settings"])


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
        return {"command": config.get("command"), "settings": dict(config["settings"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise GradwireError(f"--resume {folder} holds no {CONFIG} of a run to go on with") from None
