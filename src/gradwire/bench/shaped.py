"""Steps of DDP by two workers at the two ends of a real link, at each of several speeds.

As a program, `python -m gradwire.bench.shaped JOB`, it is one of the workers.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gradwire import models
from gradwire.bench.link import DEVICE, Link, link
from gradwire.errors import GradwireError
from gradwire.integrations import ddp_hook

BASELINE = "none"
SHAPE, CLASSES = (3, 32, 32), 10
WORKERS, PORT = 2, "29500"
WARM_UP = 2
"""Steps that are not timed: DDP rebuilds its buckets after the first."""


def examples(batch: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random images and labels."""
    return torch.rand(batch, *SHAPE, generator=source), torch.randint(CLASSES, (batch,), generator=source)


@contextmanager
def threads(workers: int) -> Iterator[None]:
    """PyTorch with one worker's part of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class ShapedJob:
    """What the workers are to do: `steps` timed steps of each scheme, with `batch` images a worker."""

    schemes: tuple[str, ...]
    model: str = "resnet18"
    batch: int = 32
    steps: int = 3
    timeout: float = 600.0


@dataclass(frozen=True)
class ShapedStep:
    """A scheme's step on a real link.

    Attributes:
        rate: bits a second.
        seconds: of a whole step, the median.
        bytes: that a worker's device sends in a step, headers of all layers included.
    """

    scheme: str
    rate: float
    seconds: float
    bytes: float


def shaped(job: ShapedJob, rates: tuple[float, ...], watch: Callable[[int], None] = lambda _: None) -> list[ShapedStep]:
    """Measures steps at each rate.

    Args:
        watch: called with the number of rates done.

    Raises:
        LinkRefused: this machine makes no shaped links. GradwireError: a worker failed.
    """
    found = []
    with link() as wire:
        for done, rate in enumerate(rates):
            wire.limit(rate)
            watch(done)
            found += [ShapedStep(spec, rate, *figures) for spec, figures in _together(wire, job).items()]
    watch(len(rates))
    return found


def _together(wire: Link, job: ShapedJob) -> dict[str, tuple[float, float]]:
    """Runs both workers to their end; what the first of them found: scheme → seconds and bytes."""
    command = [sys.executable, "-m", "gradwire.bench.shaped", json.dumps(asdict(job))]
    shared = {"MASTER_ADDR": wire.addresses[0], "MASTER_PORT": PORT, "WORLD_SIZE": str(WORKERS)}
    shared["GLOO_SOCKET_IFNAME"] = DEVICE
    workers = [wire.start(rank, command, {**shared, "RANK": str(rank)}) for rank in range(WORKERS)]
    try:
        ended = [worker.communicate(timeout=2 * job.timeout) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for worker, (_, error) in zip(workers, ended, strict=True):
        if worker.returncode:
            last = (error.strip() or f"exit status {worker.returncode}").splitlines()[-1]
            raise GradwireError(f"a worker on the shaped link failed: {last}")
    return {spec: (seconds, count) for spec, (seconds, count) in json.loads(ended[0][0]).items()}


def _work(job: ShapedJob) -> Iterator[tuple[str, tuple[float, float]]]:
    """One worker's part: scheme by scheme, the median seconds of a step and the bytes sent in one."""
    images, labels = examples(job.batch, torch.Generator().manual_seed(dist.get_rank()))
    for spec in job.schemes:
        model = DistributedDataParallel(models.build(job.model, SHAPE, CLASSES, seed=0))
        if spec != BASELINE:  # which is DDP as it comes
            model.register_comm_hook(*ddp_hook(spec, model))
        seconds, before = [], 0
        for step in range(WARM_UP + job.steps):
            model.zero_grad()
            dist.barrier()
            if step == WARM_UP:
                before = _sent()
            started = time.perf_counter()
            cross_entropy(model(images), labels).backward()
            seconds.append(time.perf_counter() - started)
        dist.barrier()
        yield spec, (statistics.median(seconds[WARM_UP:]), (_sent() - before) / job.steps)


def _sent() -> int:
    return int(Path(f"/sys/class/net/{DEVICE}/statistics/tx_bytes").read_text())


def main(text: str) -> None:
    """One worker, whose rank is in torch.distributed's environment variables; writes what it found, as JSON."""
    job = ShapedJob(**json.loads(text))
    dist.init_process_group("gloo", timeout=timedelta(seconds=job.timeout))
    with threads(WORKERS):
        sys.stdout.write(json.dumps(dict(_work(job))))
    sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
