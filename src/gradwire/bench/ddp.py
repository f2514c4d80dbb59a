"""DDP's hooks beside PyTorch's own: the time from a gradient to its mean, with next to no backward pass to hide it in.

All are run in turn, step by step and in an order drawn anew each time, in the same two processes: other work on the
machine slows them alike. What is compared are the ratios within one turn.
"""

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from gradwire.bench.training import resnet18_gradient
from gradwire.integrations import ddp_hook
from gradwire.schemes import Update

WORKERS, RANK = 2, 4
WARM_UP = 4
"""Steps that are not timed: DDP rebuilds its buckets after the first, PyTorch's hook compresses from the third on."""
PLAIN, ALL_REDUCE, FP16, POWERSGD = "plain DDP", "all-reduce hook", "fp16 hook", f"PowerSGD hook, rank {RANK}"
REFERENCES = {"none": ALL_REDUCE, "half:dtype=fp16": FP16, "half": FP16}
"""Scheme → the hook of PyTorch's that does most nearly the same; PowerSGD's for all others."""
ONE_BUCKET = 100.0
"""Megabytes. With several buckets PyTorch's PowerSGD hook starts collectives from the callbacks of others, and over
gloo the processes then do not all run them in one order."""
Register = Callable[[nn.Module], tuple[Any, Any]]
"""From a network under DDP to its communication hook's state and function."""


@dataclass(frozen=True)
class HookTime:
    """Median seconds of a step by one way, and how it compares with PyTorch's hook.

    Attributes:
        ratio: the median, over turns, of its time divided by the reference's in the same turn; `low` and `high`, the
            quartiles.
        processor: median seconds of a worker's threads on a processor, which other work on the machine hardly changes;
            `processor_ratio`, divided by the reference's.
    """

    way: str
    seconds: float
    reference: str
    ratio: float
    low: float
    high: float
    processor: float
    processor_ratio: float


def compare(schemes: tuple[str, ...], steps: int = 15) -> list[HookTime]:
    """Times PyTorch's hooks and gradwire's for each scheme, two processes over gloo, on ResNet-18's gradients."""
    with TemporaryDirectory() as folder:
        mp.spawn(_worker, (folder, schemes, steps), nprocs=WORKERS)
        times = json.loads(Path(folder, "times.json").read_text())
    return [_compared(way, times, REFERENCES.get(way, POWERSGD)) for way in times]


def _compared(way: str, times: Mapping[str, list[tuple[float, float]]], reference: str) -> HookTime:
    ratios = [ours / theirs for (ours, _), (theirs, _) in zip(times[way], times[reference], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    wall, ours = (statistics.median(each) for each in zip(*times[way], strict=True))
    theirs = statistics.median(processor for _, processor in times[reference])
    return HookTime(way, wall, reference, middle, low, high, ours, ours / theirs)


def _worker(index: int, folder: str, schemes: tuple[str, ...], steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/processes", rank=index, world_size=WORKERS)
    gradient = resnet18_gradient(index)
    theirs = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=RANK, start_powerSGD_iter=2)
    ways: dict[str, Register | None] = {
        PLAIN: None,
        ALL_REDUCE: lambda _: (None, default_hooks.allreduce_hook),
        FP16: lambda _: (None, default_hooks.fp16_compress_hook),
        POWERSGD: lambda _: (theirs, powerSGD_hook.powerSGD_hook),
        **{spec: partial(ddp_hook, spec) for spec in schemes},
    }
    steppers = {way: _stepper(gradient, register, way == POWERSGD) for way, register in ways.items()}
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    order = random.Random(0)
    for _ in range(WARM_UP + steps):
        for way in order.sample(list(ways), len(ways)):
            dist.barrier()
            times[way].append(steppers[way]())
    if index == 0:
        Path(folder, "times.json").write_text(json.dumps({way: each[WARM_UP:] for way, each in times.items()}))
    dist.destroy_process_group()


class Fed(nn.Module):
    """A module whose gradient is what it is fed: the loss is ⟨parameters, gradient⟩, which costs next to nothing."""

    def __init__(self, gradient: Update):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros_like(tensor)) for tensor in gradient.values())

    def forward(self, gradient: Update) -> Tensor:
        """⟨parameters, gradient⟩."""
        return torch.stack([(w * g).sum() for w, g in zip(self.weights, gradient.values(), strict=True)]).sum()


def _stepper(gradient: Update, register: Register | None, one_bucket: bool) -> Callable[[], tuple[float, float]]:
    """A network of its own under DDP, and the function that runs a step and returns its seconds by both clocks."""
    model = DistributedDataParallel(Fed(gradient), bucket_cap_mb=ONE_BUCKET if one_bucket else None)
    if register is not None:
        model.register_comm_hook(*register(model))

    def once() -> tuple[float, float]:
        model.zero_grad()
        loss = model(gradient)
        wall, processor = time.perf_counter(), time.process_time()
        loss.backward()
        return time.perf_counter() - wall, time.process_time() - processor

    return once
