"""The examples that are scripts run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.workers import environment, free_port

ROOT = Path(__file__).parents[1]
TEXT = "the quick brown fox jumps over a lazy dog while seven old wizards quietly mix bright new potions"


def started(*args, place=None):
    env = os.environ | (place or {}) | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def finished(process):
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return out


@pytest.mark.slow
def test_a_line_of_a_fine_tuning_is_read_from_the_transcript(tmp_path):
    pytest.importorskip("transformers")
    words = TEXT.split()
    lines = [" ".join(words[(3 * n + k * (n % 7 + 1)) % len(words)] for k in range(7 + n % 4)) for n in range(120)]
    (tmp_path / "text").write_text("\n".join(lines))
    common = ("examples/finetune_ddp.py", "--text", str(tmp_path / "text"), "--scheme", "powersgd:rank=16")
    port = free_port()
    workers = [
        started(*common, "--steps", "2", "--record", str(tmp_path / "step"), place=environment(rank, 2, port))
        for rank in (0, 1)
    ]
    first, _ = [finished(worker) for worker in workers]
    assert "MB sent" in first
    read = []
    for rank in (0, 1):
        *notes, last = finished(started(*common, "--audit", str(tmp_path / f"step.{rank}"))).strip().splitlines()
        assert "the sentences of 1 of 1 victims explain all" in notes[0]
        read.append(last.removeprefix(f"client:{rank} in step 0: "))
    assert set(read) <= set(lines)
    assert read[0] != read[1]


@pytest.mark.slow
@pytest.mark.data
def test_a_gpt_is_trained_by_diloco():
    port = free_port()
    args = ("examples/diloco.py", "--steps", "4", "--every", "2", "--scheme", "qsgd:bits=4")
    first, second = [finished(w) for w in [started(*args, place=environment(rank, 2, port)) for rank in (0, 1)]]
    assert first.startswith("qsgd:bits=4: loss ")
    assert "2 rounds, " in first
    assert not second


@pytest.mark.slow
@pytest.mark.parametrize("library", ["lightning", "accelerate"])
def test_a_trainers_script_is_compressed_and_goes_on_with_the_state_that_it_saved(tmp_path, library):
    pytest.importorskip(library)
    command = (f"examples/{library}_ddp.py", "--scheme", "topk:ratio=0.05", "--folder", str(tmp_path / "run"))
    said = []
    for more in (("--epochs", "1"), ("--epochs", "2", "--resume")):
        port = free_port()
        both = [started(*command, *more, place=environment(rank, 2, port)) for rank in (0, 1)]
        first, _ = [finished(worker) for worker in both]
        said.append(first)
    # 1,437 digits in batches of 32 for each of two workers; 403 entries of 8,026 a step, and their positions.
    assert "step 22: 0.05 MB sent" in said[0]
    assert "step 44: 0.10 MB sent" in said[1]
