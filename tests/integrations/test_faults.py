"""Workers of a DDP script under torchrun that die, hang, differ or have no room: what the others say, and going on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.distributed import workers
from tests.integrations import script

pytestmark = pytest.mark.slow
SPEC = "topk:ratio=0.05"


def start(folder, *args, nodes=(2,)):
    """torchrun, once a node with so many workers each."""
    folder.mkdir(exist_ok=True)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (Path.cwd(), *sys.path)))}
    said, where = (folder / "said").open("w"), ("--master-addr", "127.0.0.1", "--master-port", str(workers.free_port()))
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--nnodes", str(len(nodes))]
    return [
        subprocess.Popen(
            [*command, "--node-rank", str(rank), "--nproc-per-node", str(size), script.__file__, str(folder), *args],
            env=env,
            stdout=said,
            stderr=said,
        )
        for rank, size in enumerate(nodes)
    ]


def lines(folder):
    """Rank → the last line of its traceback."""
    found = re.findall(r"^\[rank(\d)\]: gradwire\.errors\.\w+: (.*)$", (folder / "said").read_text(), re.MULTILINE)
    return {int(rank): line for rank, line in found}


def failed(folder, *args, nodes=(2,)):
    for process in start(folder, *args, nodes=nodes):
        assert process.wait(timeout=120) != 0
    return lines(folder)


def test_a_worker_that_is_killed_is_named_and_its_run_goes_on_exactly(tmp_path):
    """On a node of its own: torchrun ends its own node's workers at once, and says itself which one died."""
    whole, broken, nodes = tmp_path / "whole", tmp_path / "broken", (2, 1)
    said = failed(broken, SPEC, "8", "kill", "2", "5", nodes=nodes)
    assert said, (broken / "said").read_text()  # the first to say it may have ended the other
    for line in said.values():
        assert line.startswith("lost contact with rank 2, which has ended, during '0/entries' of round 5: ")
    for folder in (broken, whole):
        for process in start(folder, SPEC, "8", nodes=nodes):
            assert process.wait(timeout=120) == 0, (folder / "said").read_text()
    for rank in range(sum(nodes)):
        one, other = (torch.load(folder / f"{rank}.end", weights_only=True) for folder in (broken, whole))
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_worker_that_hangs_is_named_within_the_timeout(tmp_path):
    folder = tmp_path / "run"
    (process,) = start(folder, SPEC, "1000000", "stop", "1", "4", nodes=(3,))
    stopped, until = None, time.monotonic() + 60
    while not lines(folder) and time.monotonic() < until:
        time.sleep(0.1)
        if stopped is None and (folder / "1.pid").exists():
            text = (folder / "1.pid").read_text()
            if text and Path(f"/proc/{text}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                stopped, since = int(text), time.monotonic()
    took = time.monotonic() - since
    os.kill(stopped, signal.SIGKILL)  # torchrun would wait 30 s for it to end
    assert process.wait(timeout=60) != 0
    for line in lines(folder).values():
        assert line.startswith("lost contact with rank 1, which is stopped, during '0/entries' of round 4: ")
    assert took < script.TIMEOUT + 4  # beside the timeout, what this machine needs to write a traceback


def test_workers_that_differ_are_named_before_anything_is_sent(tmp_path):
    for fault, message in {
        "scheme": "worker client:2 has scheme=none; worker client:0 has scheme=topk:ratio=0.05",
        "version": "worker client:2 has gradwire=0.0.9; worker client:0 has gradwire=",
    }.items():
        said = failed(tmp_path / fault, SPEC, "3", fault, "2", nodes=(3,))
        assert said
        assert all(line.startswith(message) for line in said.values())


def test_a_worker_that_writes_other_messages_is_named(tmp_path):
    said = failed(tmp_path / "run", SPEC, "3", "format", "1")
    assert said[0] == "worker client:1: message has version 9; this gradwire reads version 1"


def test_a_worker_without_the_hook_is_named(tmp_path):
    """On a node of its own: it fails first, and torchrun would end the other before that one can say why."""
    said = failed(tmp_path / "run", SPEC, "3", "no hook", "1", nodes=(1, 1))
    what = "lost contact with rank 1, which does not answer, during the first step, in which all workers' hooks meet: "
    assert said[0].startswith(what)


def test_a_full_disk_under_the_recorder_is_one_line_and_leaves_no_half_file(tmp_path):
    said = failed(tmp_path / "run", SPEC, "1000", "disk", "1", "2")
    steps = tmp_path / "run" / "steps"
    assert said[1] == f"rank 1: {steps} cannot be written: File too large"
    assert not [path for path in steps.parent.iterdir() if path.name.startswith("steps")]
