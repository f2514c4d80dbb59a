"""Full and read-only disks, and workers that are killed: one line that names the file, and nothing half written."""

import io
import os
import resource
import signal
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from gradwire.attacks.inversion.checkpoint import Checkpoint
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.rounds import recording
from gradwire.rounds.recording import RecordedRound
from gradwire.runs import RESULTS, RunFolder, write_table
from gradwire.studies.cells import COMMANDS
from gradwire.studies.grid import run_study
from gradwire.studies.plan import Study

TRAIN = ["train", "--data", "digits:train=64,test=20", "--model", "mlp", "--clients", "2", "--rounds", "2"]
MANY = torch.zeros(10_000)


@contextmanager
def full(after: int):
    """A disk on which no file grows beyond so many bytes, as far as this process can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(*arguments) -> str:
    """What the command says that ends with status 2: one line."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    lines = [line for line in said.getvalue().splitlines() if line.startswith("gradwire")]
    assert len(lines) == 1, said.getvalue()
    assert "Traceback" not in said.getvalue()
    return lines[0]


def test_rows_that_do_not_fit_on_the_disk_leave_the_table_as_it_was(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", ("round", "note"))
    run.append([{"round": 0, "note": "whole"}])
    before = (run.path / RESULTS).read_bytes()
    with full(4096), pytest.raises(GradwireError, match=r"results.csv cannot be written: File too large"):
        run.append({"round": n, "note": "n" * 100} for n in range(1000))
    assert (run.path / RESULTS).read_bytes() == before


def many(path):
    write_table(path, ("a",), ({"a": "x" * 100} for _ in range(1000)))


def recorded(path):
    recording.save({0: RecordedRound("none", 0, 0, ("client:0",), "client:0", model={"many": MANY})}, path)


def checkpointed(path):
    Checkpoint(path, "an attack").save(1, {"points": MANY})


def told(path):
    RunFolder(path.parent, ()).write_json(path.name, MANY.tolist())


def saved(path):
    RunFolder(path.parent, ()).save({"many": MANY}, path.name)


@pytest.mark.parametrize(("write", "replaces"), [(many, 1), (recorded, 1), (checkpointed, 1), (told, 0), (saved, 0)])
def test_whatever_does_not_fit_on_the_disk_is_named(tmp_path, write, replaces):
    path = tmp_path / "file"
    if replaces:
        path.write_text("what was there")
    with full(4096), pytest.raises(GradwireError, match=r"file cannot be written: .*File too large"):
        write(path)
    if replaces:
        assert path.read_text() == "what was there"
        assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("room", [0, 600])
def test_a_training_on_a_full_disk_ends_in_one_line(tmp_path, room):
    with full(room):
        said = refused(*TRAIN, "--out", tmp_path / "run")
    assert "File too large" in said
    assert "run" in said


def test_a_folder_that_cannot_be_written_is_named():
    assert "--out /proc/gradwire cannot be written" in refused(*TRAIN, "--out", "/proc/gradwire")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    assert "steps" in refused(*TRAIN, "--record", "/proc/gradwire/steps", "--out", tmp_path / "run")


@dataclass(frozen=True)
class Killed:
    """Settings of a cell that ends its process, as the kernel does where memory is short."""

    seed: int = 0


def kill(settings, own, out, resume):
    Path(out).parent.mkdir(exist_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line_that_says_how_to_go_on(tmp_path):
    study = Study.of("killed", {"command": "train", "label": "{seed}", "grid": {"seed": [0, 1]}})
    commands = {"train": replace(COMMANDS["train"], kind=Killed, run=kill, own={}, marks=())}
    with pytest.raises(GradwireError, match=rf"a worker was killed .*; go on with --resume {tmp_path}/study"):
        run_study(study, tmp_path / "study", jobs=2, commands=commands)
