import csv
import sys

import pytest

from gradwire.bench.inversion import InversionSettings, inversion_speeds
from tests.cli.test_cli import refused, run


def test_wire():
    result = run("bench", "wire")
    assert result.returncode == 0, result.stderr
    assert "GB/s" in result.stdout


def test_inversion_reaches_what_the_loop_reaches_in_every_precision():
    settings = InversionSettings("convnet", "digits", (3,), iterations=3, precisions=("fp32", "tf32"))
    speeds = list(inversion_speeds(settings))
    ways = ["loop", "batched", "batched", "functional", "functional"]
    assert [speed.way for speed in speeds] == ways
    assert [speed.precision for speed in speeds] == ["fp32", "fp32", "tf32", "fp32", "tf32"]
    assert max(s.objective for s in speeds) - min(s.objective for s in speeds) < 1e-3
    assert all(speed.milliseconds > 0 for speed in speeds)


def test_inversion_writes_a_report_with_a_curve(tmp_path):
    out = tmp_path / "run"
    counts = ["--victims", 1, "--victims", 2]
    result = run("bench", "inversion", "--model", "mlp", "--data", "digits", *counts, "--iterations", 1, "--out", out)
    assert result.returncode == 0, result.stderr
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["victims"]) for row in rows] == [
        (way, count) for count in "12" for way in ("loop", "batched", "functional")
    ]
    page = (out / "report.html").read_text()
    assert "breaching was not timed" in page
    assert "times as fast as the loop" in page
    assert (out / "speeds.svg").stat().st_size > 1000
    assert run("report", out).returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--victims", 0], ["victims (1, 0)", "at least 1"]),
        (["--precision", "fp8"], ["unknown precision 'fp8'"]),
        (["--breaching", "/nowhere/python"], ["--breaching /nowhere/python cannot be run"]),
        (
            ["--breaching", sys.executable],
            [f"--breaching {sys.executable} fails", "No package metadata", "breaching"],
        ),
        (["--breaching", "python", "--mode", "train"], ["breaching is compared in eval mode"]),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path, options, words):
    quick = ["--model", "lenet", "--data", "digits", "--victims", 1, "--iterations", 1, "--out", tmp_path / "run"]
    refused(run("bench", "inversion", *quick, *options), *words)
