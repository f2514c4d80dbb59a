"""Rounds of federated averaging a second: gradwire, a plain loop over clients, Flower's simulation engine, and pfl.

All start from one network and take the same examples in the same steps. The loss that each network ends with shows that
they did equal work.
"""

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gradwire import data
from gradwire.bench.others import SCRIPTS, job, run
from gradwire.bench.timing import growth
from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, evaluate, train
from gradwire.training.batches import descents, sampled

MEASURED = 2
"""Rounds over which memory is measured; they are not timed."""


@dataclass(frozen=True)
class FederatedSetting:
    """What is trained: fields as of `TrainSettings`, one local epoch, no momentum.

    Training examples are taken again from the beginning where the data set has fewer than `examples`.
    """

    data: str
    model: str
    examples: int
    clients: int
    sample: int
    batch_size: int
    lr: float = 0.1

    @property
    def name(self) -> str:
        """The setting in words."""
        return f"{self.model} on {self.data}, {self.sample} of {self.clients} clients, batch {self.batch_size}"


SETTINGS: Mapping[str, FederatedSetting] = {
    "lenet": FederatedSetting("fashion_mnist", "lenet", 60_000, 100, 10, 10),
    "mlp": FederatedSetting("fashion_mnist", "mlp", 60_000, 100, 10, 10),
    "cnn": FederatedSetting("cifar10", "cnn", 50_000, 1_000, 50, 10),
}


@dataclass(frozen=True)
class Pace:
    """How fast one implementation, `by`, went, from its median round but the first.

    Attributes:
        times_loop: the plain loop's seconds a round ÷ these.
        megabytes_a_client: by which memory grew at most in a round, ÷ its clients; None where not measured.
        test_loss: of the network at the end, on 2,000 test images.
        how: what the implementation says of itself.
    """

    setting: str
    by: str
    rounds_per_second: float
    times_loop: float
    megabytes_a_client: float | None
    test_loss: float
    how: str = ""

    def row(self) -> dict[str, object]:
        """Column → value."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Pace))


def paces(setting: FederatedSetting, rounds: int, others: Mapping[str, str]) -> Iterator[Pace]:
    """The plain loop's, gradwire's, and those of other packages, over so many rounds each.

    Args:
        others: "flower", "pfl" → a Python that has it.

    Raises:
        GradwireError: fewer than 2 rounds, clients without full batches, or another Python that fails.
    """
    if rounds < 2:
        raise GradwireError(f"rounds is {rounds}; it must be at least 2, for the first is not counted")
    whole, held_out = data.load(setting.data, "train"), data.load(setting.data, "test", limit=2_000)
    where = torch.arange(setting.examples) % len(whole)
    dataset = replace(whole, inputs=whole.inputs[where], targets=whole.targets[where])
    settings = TrainSettings(
        clients=setting.clients,
        sample=setting.sample,
        rounds=rounds,
        batch_size=setting.batch_size,
        local_epochs=1,
        lr=setting.lr,
        momentum=0.0,
    )
    start = dataset.network(setting.model, 0, raw=True)
    loop: list[float] = []

    def pace(by: str, seconds: Sequence[float], network: nn.Module, megabytes: float | None, how: str = "") -> Pace:
        loop.append(each := statistics.median(seconds[1:]))
        memory = None if megabytes is None else megabytes / setting.sample
        return Pace(setting.name, by, 1 / each, loop[0] / each, memory, evaluate(network, held_out)["loss"], how)

    with tempfile.TemporaryDirectory() as folder:
        job.write(folder, start, setting.lr, whole.inputs, whole.targets, _steps(settings, dataset) % len(whole))
        task = job.read(folder)
        few = replace(task, plan=task.plan[:MEASURED])
        yield pace("plain loop", *_looped(task), growth(lambda: _looped(few)))
        for name, how in (("gradwire", settings), ("gradwire, bf16", replace(settings, precision="bf16"))):
            seconds, network, notes = _ours(how, start, dataset)
            memory = growth(partial(_ours, replace(how, rounds=MEASURED), start, dataset))
            yield pace(name, seconds, network, memory, notes)
        for name, python in others.items():
            yield pace(name, *_theirs(name, python, folder, task), None)


def _ours(settings: TrainSettings, start: nn.Module, dataset: Dataset) -> tuple[list[float], nn.Module, str]:
    """Whole rounds, messages and all: seconds of each, the network, notes."""
    state, ends = begin(settings, copy.deepcopy(start)), [time.perf_counter()]
    train(state, settings, dataset, after_round=lambda *_: ends.append(time.perf_counter()))
    return np.diff(ends).tolist(), state.model, "; ".join(state.notes)


def _looped(task: job.Job) -> tuple[list[float], nn.Module]:
    """One client after another: copy the network, train it, add it to the mean."""
    network, ends = task.network(), [time.perf_counter()]
    for clients in task.plan:
        mean = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
        for steps in clients:
            own = copy.deepcopy(network)
            job.work(own, task, steps)
            for name, tensor in own.state_dict().items():
                mean[name] += tensor / len(clients)
        network.load_state_dict(mean)
        ends.append(time.perf_counter())
    return np.diff(ends).tolist(), network


def _theirs(name: str, python: str, folder: str, task: job.Job) -> tuple[list[float], nn.Module]:
    """The rounds of another package, in a Python that has it."""
    run(f"--{name}", python, str(SCRIPTS / f"rounds_by_{name}.py"), folder)
    seconds = json.loads(Path(folder, "seconds.json").read_text())
    return seconds, replace(task, start=job.load(folder, "end")).network()


def _steps(settings: TrainSettings, dataset: Dataset) -> Tensor:
    """Positions of the examples of every step, (rounds, clients of a round, steps, B), in full batches only."""
    shards = partition.split(settings.partition, dataset.targets, settings.clients, settings.seed)
    if len({len(shard) for shard in shards}) > 1 or len(shards[0]) % settings.batch_size:
        raise GradwireError(f"{len(dataset)} examples do not give {settings.clients} clients full batches each")

    def of(client: int, round: int) -> Tensor:
        return shards[client][
            torch.stack(list(descents(settings, f"client:{client}", len(shards[client]), round).plan))
        ]

    rounds = range(settings.rounds)
    return torch.stack([torch.stack([of(client, round) for client in sampled(settings, round)]) for round in rounds])
