"""`gradwire train` in several processes: one that dies, and going on after it."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import workers

pytestmark = pytest.mark.slow
SETTINGS = ("train", "--model", "lenet", "--batch-size", "16", "--eval-every", "10", "--timeout", "30")


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "energy_kwh")} for row in csv.DictReader(file)]


def together(*args, per_worker=((), ())):
    port = workers.free_port()
    return [workers.start(rank, 2, port, *SETTINGS, *args, *extra) for rank, extra in enumerate(per_worker)]


def test_a_worker_that_dies_ends_the_run_and_resume_goes_on_as_if_it_had_not(tmp_path):
    options = ("--scheme", "dgc:ratio=0.05", "--optimizer", "adam", "--lr", "0.003")
    broken = tmp_path / "broken"
    first, second = together(*options, "--rounds", "100000", "--out", str(broken))
    while not (broken / "checkpoint.safetensors").exists():
        assert first.poll() is None, first.communicate()
    workers.kill(second)
    _, error = first.communicate(timeout=60)
    assert first.returncode == 2
    line = error.strip().splitlines()[-1]
    assert line.startswith("gradwire: lost contact with rank 1, which has ended, during ")
    done = len(rows(broken)) * 10
    target = str(done + 20)
    whole = together(*options, "--rounds", target, "--out", str(tmp_path / "reference"))
    resumed = together(*options, "--rounds", target, "--resume", str(broken))
    for process in (*whole, *resumed):
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert rows(broken) == rows(tmp_path / "reference")
    one, other = (load_file(folder / "checkpoint.safetensors") for folder in (broken, tmp_path / "reference"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_worker_that_hangs_ends_the_run_within_the_timeout(tmp_path):
    out = tmp_path / "run"
    first, second = together("--rounds", "100000", "--out", str(out), "--timeout", "3")
    while not (out / "checkpoint.safetensors").exists():
        assert first.poll() is None, first.communicate()
    second.send_signal(signal.SIGSTOP)
    try:
        _, error = first.communicate(timeout=60)
    finally:
        workers.kill(second)
    assert first.returncode == 2
    assert "gradwire: lost contact with rank 1, which is stopped, during " in error.strip().splitlines()[-1]


def test_a_worker_with_other_hyper_parameters_is_refused_by_name(tmp_path):
    out = ("--rounds", "2", "--out", str(tmp_path / "run"))
    for process in together(*out, per_worker=(("--lr", "0.1"), ("--lr", "0.2"))):
        _, error = process.communicate()
        assert process.returncode == 2
        assert "gradwire: worker client:1 has lr=0.2; worker client:0 has lr=0.1" in error
    assert not (tmp_path / "run").exists()


def test_a_worker_leaves_without_the_interpreters_end(tmp_path):
    """That end now and then aborts a worker whose process group is gone already; what it says must be out before."""
    code = "import atexit, runpy, sys; atexit.register(print, 'at the end', flush=True); "
    code += "runpy.run_module('gradwire', run_name='__main__')"
    out = tmp_path / "run"
    args = (*SETTINGS, "--clients", "1", "--rounds", "1", "--out", str(out))
    env = os.environ | workers.environment(0, 1, workers.free_port()) | {"OMP_NUM_THREADS": "1"}
    for rounds, status in (("1", 0), ("-1", 2)):
        command = [sys.executable, "-c", code, *args, "--rounds", rounds]
        ended = subprocess.run(command, env=env, capture_output=True, text=True)
        assert ended.returncode == status, ended.stderr
        assert "at the end" not in ended.stdout
    assert "rounds is -1" in ended.stderr
    assert (out / "report.html").exists()
