"""What compression costs in a step of training: against PyTorch's own PowerSGD hook, and against torch.topk."""

import json
import statistics
import time
from collections.abc import Callable
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

from gradwire import models
from gradwire.bench.timing import median_seconds
from gradwire.integrations import ddp_hook
from gradwire.schemes import Layout, Round, Update, parse
from gradwire.schemes.selection import largest
from gradwire.seeds import generator

RATIO = 0.01
WARM_UP = 4
"""Steps that are not timed: DDP rebuilds its buckets after the first, PyTorch's hook compresses from the third on."""
Register = Callable[[nn.Module], tuple[Any, Any]]
"""From a network under DDP to its communication hook's state and function."""


@dataclass(frozen=True)
class Comparison:
    """Median seconds of what was measured, and of the reference in the same run."""

    what: str
    seconds: float
    reference: str
    reference_seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long as the reference it took."""
        return self.seconds / self.reference_seconds


def resnet18_gradient(seed: int = 0) -> dict[str, Tensor]:
    """Random numbers in the shapes of a ResNet-18's gradient on CIFAR-10: 11.2 M entries."""
    layout = Layout.of_model(models.build("resnet18", (3, 32, 32), 10, seed=0))
    source = generator("bench gradient", seed)
    return {name: torch.randn(shape, generator=source) for name, shape in layout.shapes.items()}


def selection(repeats: int = 7) -> list[Comparison]:
    """Top-K of 11.2 M entries against torch.topk, and a DGC client's step against a Top-K client's."""
    update = resnet18_gradient()
    layout = Layout.of(update)
    vector, count = layout.flatten(update), int(RATIO * layout.size)
    ours = median_seconds(lambda: largest(vector, count), repeats)
    theirs = median_seconds(lambda: torch.topk(vector.abs(), count, sorted=False).indices.sort(), repeats)
    topk, dgc = f"topk:ratio={RATIO}", f"dgc:ratio={RATIO}"
    topk_seconds, dgc_seconds = (_upload(spec, update, repeats) for spec in (topk, dgc))
    return [
        Comparison(f"largest {RATIO:.0%} of {layout.size:,} entries", ours, "torch.topk", theirs),
        Comparison(f"a client's upload under {dgc}", dgc_seconds, topk, topk_seconds),
    ]


def _upload(spec: str, update: Update, repeats: int) -> float:
    """Seconds from an update to the tensors of a client's first message, in its second round."""
    scheme, layout = parse(spec), Layout.of(update)
    state = {name: torch.randn_like(tensor) for name, tensor in scheme.private_state(layout).items()}
    round = Round(0, ("client:0",), 0, layout)
    return median_seconds(lambda: next(scheme.client(update, state, {}, round)), repeats)


def hooks(schemes: tuple[str, ...], rank: int = 4, steps: int = 15) -> list[Comparison]:
    """The time from a gradient to its aggregate in DDP, two processes: each scheme against PyTorch's PowerSGD hook.

    All are run in turn, step by step, in the same two processes, so that other work on the machine slows them alike.
    """
    reference = f"PyTorch's PowerSGD hook, rank {rank}"
    with TemporaryDirectory() as folder:
        mp.spawn(_worker, (folder, schemes, rank, steps), nprocs=2)
        seconds = json.loads(Path(folder, "seconds.json").read_text())
    names = {"plain": "PyTorch's all-reduce hook"} | {spec: f"gradwire's hook, {spec}" for spec in schemes}
    return [Comparison(name, seconds[key], reference, seconds["theirs"]) for key, name in names.items()]


def _worker(index: int, folder: str, schemes: tuple[str, ...], rank: int, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/processes", rank=index, world_size=2)
    gradient = resnet18_gradient(index)
    theirs = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
    registered: dict[str, Register] = {"theirs": lambda _: (theirs, powerSGD_hook.powerSGD_hook)}
    registered |= {"plain": lambda _: (None, default_hooks.allreduce_hook)}
    registered |= {spec: partial(ddp_hook, spec) for spec in schemes}
    steppers = {name: _stepper(gradient, register) for name, register in registered.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(WARM_UP + steps):
        for name, once in steppers.items():
            dist.barrier()
            seconds[name].append(once())
    if index == 0:
        medians = {name: statistics.median(each[WARM_UP:]) for name, each in seconds.items()}
        Path(folder, "seconds.json").write_text(json.dumps(medians))
    dist.destroy_process_group()


class Fed(nn.Module):
    """A module whose gradient is what it is fed: the loss is ⟨parameters, gradient⟩, which costs next to nothing."""

    def __init__(self, gradient: Update):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros_like(tensor)) for tensor in gradient.values())

    def forward(self, gradient: Update) -> Tensor:
        """⟨parameters, gradient⟩."""
        return torch.stack([(w * g).sum() for w, g in zip(self.weights, gradient.values(), strict=True)]).sum()


def _stepper(gradient: Update, register: Register) -> Callable[[], float]:
    """A network of its own under DDP, and the function that runs a step of it and returns its seconds."""
    # One bucket: with several, PyTorch's hook starts collectives from the callbacks of others, and over gloo the
    # processes then do not all run them in one order.
    model = DistributedDataParallel(Fed(gradient), bucket_cap_mb=100)
    model.register_comm_hook(*register(model))

    def once() -> float:
        model.zero_grad()
        loss = model(gradient)
        started = time.perf_counter()
        loss.backward()
        return time.perf_counter() - started

    return once
