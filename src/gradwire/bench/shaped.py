"""Steps of DDP by two workers at the two ends of a real link, at each of several speeds.

As a program, `python -m gradwire.bench.shaped JOB`, it is one of the workers.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
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
from gradwire.bench.timing import threads
from gradwire.errors import GradwireError, not_negative
from gradwire.integrations import ddp_hook
from gradwire.progress import Progress, silent
from gradwire.report.rows import BASELINE

SHAPE, CLASSES = (3, 32, 32), 10
WORKERS, PORT, TIMEOUT = 2, "29500", 600.0
WARM_UP = 2
"""Steps that are not timed: DDP rebuilds its buckets after the first."""


def examples(batch: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random images and labels."""
    return torch.rand(batch, *SHAPE, generator=source), torch.randint(CLASSES, (batch,), generator=source)


def part_of_cores(workers: int) -> AbstractContextManager[None]:
    """PyTorch with one worker's part of the cores."""
    return threads(max(1, (os.cpu_count() or 1) // workers))


@dataclass(frozen=True)
class NetworkSettings:
    """What decides the benchmark.

    Attributes:
        schemes: beside plain SGD, with which all are compared; `batch`: images a worker, which the seed draws.
        workers, latency: of the modelled link; seconds that a message takes beside its bytes.
        real, steps: whether to measure on real links, too, and how many steps of each scheme there.
    """

    schemes: tuple[str, ...] = ("powersgd:rank=4", "topk:ratio=0.01")
    model: str = "resnet18"
    batch: int = 32
    workers: int = 2
    latency: float = 1e-4
    real: bool = True
    steps: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("workers", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        not_negative("", self, "latency")


@dataclass(frozen=True)
class ShapedStep:
    """A scheme's step at `rate` bits a second: median seconds, and the bytes that a worker's device sends."""

    scheme: str
    rate: float
    seconds: float
    bytes: float


def shaped(settings: NetworkSettings, rates: tuple[float, ...], progress: Progress = silent) -> list[ShapedStep]:
    """Measures steps of each scheme at each rate.

    Raises:
        LinkRefused: this machine makes no shaped links. GradwireError: a worker failed.
    """
    found = []
    with link() as wire:
        for done, rate in enumerate(rates):
            wire.limit(rate)
            progress("links", done, len(rates))
            found += [ShapedStep(spec, rate, *figures) for spec, figures in _together(wire, settings).items()]
    progress("links", len(rates), len(rates))
    return found


def _together(wire: Link, settings: NetworkSettings) -> dict[str, tuple[float, float]]:
    """Runs both workers to their end; what the first of them found: scheme → seconds and bytes."""
    command = [sys.executable, "-m", "gradwire.bench.shaped", json.dumps(asdict(settings))]
    shared = {"MASTER_ADDR": wire.addresses[0], "MASTER_PORT": PORT, "WORLD_SIZE": str(WORKERS)}
    shared["GLOO_SOCKET_IFNAME"] = DEVICE
    workers = [wire.start(rank, command, {**shared, "RANK": str(rank)}) for rank in range(WORKERS)]
    try:
        ended = [worker.communicate(timeout=2 * TIMEOUT) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for worker, (_, error) in zip(workers, ended, strict=True):
        if worker.returncode:
            last = (error.strip() or f"exit status {worker.returncode}").splitlines()[-1]
            raise GradwireError(f"a worker on the shaped link failed: {last}")
    return {spec: (seconds, count) for spec, (seconds, count) in json.loads(ended[0][0]).items()}


def _work(settings: NetworkSettings) -> Iterator[tuple[str, tuple[float, float]]]:
    """One worker's part: scheme by scheme, the median seconds of a step and the bytes sent in one."""
    images, labels = examples(settings.batch, torch.Generator().manual_seed(dist.get_rank()))
    for spec in settings.schemes:
        model = DistributedDataParallel(models.build(settings.model, SHAPE, CLASSES, seed=0))
        if spec != BASELINE:  # which is DDP as it comes
            model.register_comm_hook(*ddp_hook(spec, model))
        seconds, before = [], 0
        for step in range(WARM_UP + settings.steps):
            model.zero_grad()
            dist.barrier()
            if step == WARM_UP:
                before = _sent()
            started = time.perf_counter()
            cross_entropy(model(images), labels).backward()
            seconds.append(time.perf_counter() - started)
        dist.barrier()
        yield spec, (statistics.median(seconds[WARM_UP:]), (_sent() - before) / settings.steps)


def _sent() -> int:
    return int(Path(f"/sys/class/net/{DEVICE}/statistics/tx_bytes").read_text())


def main(text: str) -> None:
    """One worker, whose rank is in torch.distributed's environment variables; writes what it found, as JSON."""
    settings = NetworkSettings(**json.loads(text))
    dist.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT))
    with part_of_cores(WORKERS):
        sys.stdout.write(json.dumps(dict(_work(settings))))
    sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
