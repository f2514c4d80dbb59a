"""What compression costs in a step of training: against PyTorch's own PowerSGD hook, and against torch.topk."""

import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
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


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        what: was measured; `reference`: what it is compared with.
        seconds: the median of one, in the same run as `reference_seconds`.
    """

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


def selection(repeats: int = 7) -> list[Measured]:
    """Top-K of 11.2 M entries against torch.topk, and a DGC client's step against a Top-K client's."""
    update = resnet18_gradient()
    layout = Layout.of(update)
    vector = layout.flatten(update)
    count = int(RATIO * layout.size)
    ours = median_seconds(lambda: largest(vector, count), repeats)
    theirs = median_seconds(lambda: torch.topk(vector.abs(), count, sorted=False).indices.sort(), repeats)
    clients = {spec: _upload(spec, update, repeats) for spec in (f"topk:ratio={RATIO}", f"dgc:ratio={RATIO}")}
    topk, dgc = clients.values()
    return [
        Measured(f"largest {RATIO:.0%} of {layout.size:,} entries", ours, "torch.topk", theirs),
        Measured(f"a client's upload under dgc:ratio={RATIO}", dgc, f"topk:ratio={RATIO}", topk),
    ]


def hooks(schemes: tuple[str, ...], rank: int = 4, steps: int = 15) -> list[Measured]:
    """The time from a gradient to its aggregate in DDP, two processes: each scheme against PyTorch's PowerSGD hook.

    All are run in turn, step by step, in the same two processes, so that what else the machine does hits them alike.
    """
    reference = f"PyTorch's PowerSGD hook, rank {rank}"
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "seconds")
        mp.spawn(_worker, (_free_port(), path, schemes, rank, steps), nprocs=2)
        seconds = {name: statistics.median(tensor.tolist()) for name, tensor in load_file(path).items()}
    theirs = seconds.pop("theirs")
    plain = Measured("PyTorch's all-reduce hook", seconds.pop("plain"), reference, theirs)
    return [plain, *(Measured(f"gradwire's hook, {spec}", seconds[spec], reference, theirs) for spec in schemes)]


class Fed(nn.Module):
    """A module whose gradient is what it is fed: the loss is ⟨parameters, gradient⟩, which costs next to nothing."""

    def __init__(self, gradient: Update):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros_like(tensor)) for tensor in gradient.values())

    def forward(self, gradient: Update) -> Tensor:
        """⟨parameters, gradient⟩."""
        return torch.stack([(w * g).sum() for w, g in zip(self.weights, gradient.values(), strict=True)]).sum()


def _upload(spec: str, update: Update, repeats: int) -> float:
    """Seconds from an update to the tensors of a client's first message, in its second round."""
    scheme, layout = parse(spec), Layout.of(update)
    state = scheme.private_state(layout)
    state = {name: torch.randn_like(tensor) for name, tensor in state.items()}
    round = Round(0, ("client:0",), 0, layout)
    return median_seconds(lambda: next(scheme.client(update, state, {}, round)), repeats)


def _worker(index: int, port: int, path: str, schemes: tuple[str, ...], rank: int, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=index, world_size=2)
    gradient = resnet18_gradient(index)
    theirs = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
    registered: dict[str, Callable[[nn.Module], tuple[Any, Any]]] = {
        "theirs": lambda _: (theirs, powerSGD_hook.powerSGD_hook),
        "plain": lambda _: (None, default_hooks.allreduce_hook),
    }
    registered |= {spec: partial(ddp_hook, spec) for spec in schemes}
    steppers = {name: _stepper(gradient, register) for name, register in registered.items()}
    seconds: Mapping[str, list[float]] = {name: [] for name in steppers}
    for step in range(WARM_UP + steps):
        for name, once in steppers.items():
            dist.barrier()
            took = once()
            if step >= WARM_UP:
                seconds[name].append(took)
    if index == 0:
        save_file({name: torch.tensor(each) for name, each in seconds.items()}, path)
    dist.destroy_process_group()


def _stepper(gradient: Update, register: Callable[[nn.Module], tuple[Any, Any]]) -> Callable[[], float]:
    """A network of its own under DDP, and the function that runs a step of it and tells how long that took."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
