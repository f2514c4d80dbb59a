"""The commands as a shell runs them: what they print, what they write, what they refuse."""

import csv
import io
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
from PIL import Image

from gradwire.cli import main
from gradwire.studies.audit_settings import DEFAULT_SCHEMES

QUICK = ["--samples", "1", "--attack", "iga:iterations=3"]
FACTORY = """
import torch
from torch import nn

def tiny(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

def frozen():
    return tiny((1, 8, 8), 10).requires_grad_(False)

def broken(shape, classes):
    model = tiny(shape, classes)
    model[1].weight.data.fill_(float("nan"))
    return model

def small():
    return tiny((1, 8, 8), 3)
"""


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments, cwd="."):
    """The command in this process: a process of its own takes seconds to start, and one test does that."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), chdir(cwd):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
    return Result(status, out.getvalue(), err.getvalue())


def refused(result, *words):
    """One line, status 2, no traceback."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A folder with a user's module and a user's images."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(FACTORY)
    for kind in ("cats", "dogs"):
        (folder / "images" / kind).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (12, 12), (40 * number, 10, 200)).save(folder / "images" / kind / f"{number}.png")
    return folder


def test_audit_writes_a_run_and_names_its_report(tmp_path):
    result = run("audit", *QUICK, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "powersgd:rank=4" in result.stdout
    assert f"report: {tmp_path / 'run' / 'report.html'}" in result.stdout
    assert {"results.csv", "config.json", "report.html"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_ones_own_model_and_folder_of_images(tmp_path, user):
    out = tmp_path / "run"
    result = run(
        "audit",
        *QUICK,
        "--model",
        "mine:tiny",
        "--data",
        "images",
        "--scheme",
        "topk:ratio=0.1",
        "--out",
        out,
        cwd=user,
    )
    assert result.returncode == 0, result.stderr
    assert (out / "report.html").exists()


def test_train_resume_and_report(tmp_path):
    out = tmp_path / "run"
    common = ["train", "--scheme", "powersgd:rank=2", "--eval-every", "2", "--clients", "2"]
    whole = run(*common, "--rounds", "6", "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert run(*common, "--rounds", "4", "--out", out).returncode == 0
    resumed = run(*common, "--rounds", "6", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr

    def rows(folder):
        with (folder / "results.csv").open(newline="") as file:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]

    assert rows(out) == rows(tmp_path / "whole")
    assert [row["round"] for row in rows(out)] == ["2", "4", "6"]
    assert run("report", out).returncode == 0
    refused(run(*common, "--rounds", "6", "--resume", tmp_path / "nowhere"), "no checkpoint")


def test_list_names_everything():
    result = run("list")
    for name in ("powersgd", "iga", "resnet18", "fashion_mnist"):
        assert name in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scheme", "powersdg"], ["unknown scheme 'powersdg'", "powersgd"]),
        (["--attack", "magic"], ["unknown attack 'magic'", "iga"]),
        (["--model", "vgg"], ["unknown model 'vgg'", "lenet"]),
        (["--data", "imagenet"], ["imagenet", "cifar10"]),
        (["--scheme", "topk:ratio=0"], ["ratio is 0", "(0, 1]"]),
        (["--scheme", "topk:ratio=1.01"], ["ratio is 1.01"]),
        (["--scheme", "powersgd:rank=0"], ["rank is 0"]),
        (["--samples", "0"], ["samples is 0"]),
        (["--samples", "many"], ["many"]),
        (["--nonsense"], ["--nonsense"]),
        (["--model", "nowhere:net"], ["nowhere"]),
        (["--model", "mine:frozen"], ["gradient"]),
        (["--model", "mine:broken", "--data", "digits"], ["gradient of '1.weight' is not finite"]),
        (["--model", "mine:small", "--data", "digits"], ["out of range", "classes 0 to 2"]),
        (["--model", "mine:small"], ["fails on inputs of shape (3, 32, 32)", "64x3"]),
        (["--data", "empty"], ["empty"]),
        (["--data", "mixed"], ["mixed"]),
        (["--device", "toaster"], ["device 'toaster'"]),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(user, tmp_path, arguments, words):
    (user / "empty").mkdir(exist_ok=True)
    for kind, size in (("a", 8), ("b", 9)):
        (user / "mixed" / kind).mkdir(parents=True, exist_ok=True)
        Image.new("L", (size, size)).save(user / "mixed" / kind / "0.png")
    # A model that has too few classes only shows with a label that is too large: digits has ten.
    samples = [] if "--samples" in arguments else ["--samples", "3"]
    quick = [] if "--attack" in arguments else ["--attack", "iga:iterations=2"]
    refused(run("audit", *samples, *quick, "--out", tmp_path / "run", *arguments, cwd=user), *words)


def test_a_partition_that_does_not_fit_is_refused_before_there_is_a_folder(tmp_path):
    asked = ["--partition", "shards:999", "--clients", "20", "--out", tmp_path / "run"]
    refused(run("train", *asked, cwd=tmp_path), "999 shards for each of 20 clients")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_run_is_left_alone(tmp_path):
    (tmp_path / "results.csv").write_text("precious\n")
    refused(run("audit", *QUICK, "--out", tmp_path), "already holds a run", f"--resume {tmp_path}")
    assert (tmp_path / "results.csv").read_text() == "precious\n"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused(run("audit", *QUICK, "--out", tmp_path / "file" / "run"), "cannot be written")


def test_a_report_of_nothing_is_refused(tmp_path):
    refused(run("report", tmp_path), "results.csv")


@pytest.mark.slow
def test_an_interrupted_audit_leaves_its_finished_rows(tmp_path):
    out = tmp_path / "run"
    arguments = ["audit", "--data", "digits", "--samples", "4", "--attack", "iga:iterations=30", "--chunk", "4"]
    arguments += ["--out", str(out)]
    rows = 4 * len(DEFAULT_SCHEMES) * 2
    # A job in a shell's background ignores SIGINT, and hands that on to what it starts.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeding}; from gradwire.cli import main; main()", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    results = out / "results.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (results.exists() and len(results.read_text().splitlines()) > 4):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    with results.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found
    assert len(found) % 4 == 0
    assert len(found) < rows
    assert all(0 <= float(row["mse"]) <= 1 for row in found)
    resumed = run(*arguments[:-2], "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    with results.open(newline="") as file:
        again = list(csv.DictReader(file))
    assert len(again) == rows
    assert [row["ssim"] for row in again[: len(found)]] == [row["ssim"] for row in found]
