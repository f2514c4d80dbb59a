"""Rounds of federated averaging a second: gradwire, a plain loop over clients, Flower's simulation engine, and pfl.

All start from one network and take the same examples in the same steps. That they did equal work is seen by the loss
that their network ends with.
"""

import copy
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gradwire import data, models
from gradwire.bench import rounds as scripts
from gradwire.bench.memory import peak
from gradwire.bench.rounds import job
from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, evaluate, train
from gradwire.training.batches import descents, sampled

COLUMNS = ("setting", "by", "rounds_per_second", "times_loop", "megabytes_a_client", "test_loss", "how")

MEASURED = 2
"""Rounds over which memory is measured; they are not timed."""


@dataclass(frozen=True)
class FederatedSetting:
    """What is trained.

    Attributes:
        examples: training examples; where the data set has fewer, they are taken again from the beginning.
        clients, sample, batch_size: as in `TrainSettings`; one local epoch, no momentum.
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
        """As tables call it."""
        return f"{self.model} on {self.data}, {self.sample} of {self.clients} clients, batch {self.batch_size}"


SETTINGS: Mapping[str, FederatedSetting] = {
    "lenet": FederatedSetting("fashion_mnist", "lenet", 60_000, 100, 10, 10),
    "mlp": FederatedSetting("fashion_mnist", "mlp", 60_000, 100, 10, 10),
    "cnn": FederatedSetting("cifar10", "cnn", 50_000, 1_000, 50, 10),
}


@dataclass(frozen=True)
class Pace:
    """How fast one implementation went.

    Attributes:
        by: whose it is; `rounds_per_second`, from the median round but the first.
        times_loop: the plain loop's seconds a round ÷ these.
        megabytes_a_client: by which memory grew at most in a round, for each of its clients; None where not measured.
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


def paces(setting: FederatedSetting, rounds: int, others: Mapping[str, str]) -> Iterator[Pace]:
    """The plain loop's, gradwire's, and those of other packages.

    Args:
        rounds: of each, the first of which is not counted.
        others: "flower", "pfl" → a Python that has it.
    """
    if rounds < 2:
        raise GradwireError(f"rounds is {rounds}; it must be at least 2, for the first is not counted")
    whole, held_out = data.load(setting.data, "train"), data.load(setting.data, "test", limit=2_000)
    dataset = _of_size(whole, setting.examples)
    settings = TrainSettings(
        clients=setting.clients,
        sample=setting.sample,
        rounds=rounds,
        batch_size=setting.batch_size,
        local_epochs=1,
        lr=setting.lr,
        momentum=0.0,
    )
    start = models.build(setting.model, dataset.shape, dataset.num_classes, seed=0)
    steps = _steps(settings, dataset) % len(whole)
    with tempfile.TemporaryDirectory() as folder:
        _write(folder, start, setting.lr, whole, steps)
        task = job.read(folder)
        seconds, network = _looped(task)
        loop, memory = statistics.median(seconds[1:]), _grown(lambda: _looped(replace(task, plan=task.plan[:MEASURED])))
        yield Pace(setting.name, "plain loop", 1 / loop, 1.0, memory / setting.sample, evaluate(network, held_out)[0])
        for name, how in (("gradwire", settings), ("gradwire, bf16", replace(settings, precision="bf16"))):
            seconds, network, notes = _ours(how, start, dataset)
            ours, short = statistics.median(seconds[1:]), replace(how, rounds=MEASURED)
            memory = _grown(partial(_ours, short, start, dataset)) / setting.sample
            yield Pace(setting.name, name, 1 / ours, loop / ours, memory, evaluate(network, held_out)[0], notes)
        for name, python in others.items():
            seconds, network = _theirs(name, python, folder, start)
            each = statistics.median(seconds[1:])
            yield Pace(setting.name, name, 1 / each, loop / each, None, evaluate(network, held_out)[0])


def _grown(work: Callable[[], object]) -> float:
    """By how many megabytes memory grows while this is done."""
    with peak() as grown:
        work()
    return grown.megabytes


def _ours(settings: TrainSettings, start: nn.Module, dataset: Dataset) -> tuple[list[float], nn.Module, str]:
    """Whole rounds, messages and all: seconds of each, the network, notes."""
    state, ends = begin(settings, copy.deepcopy(start)), [time.perf_counter()]
    train(state, settings, dataset, after_round=lambda *_: ends.append(time.perf_counter()))
    return np.diff(ends).tolist(), state.model, "; ".join(state.notes)


def _looped(task: job.Job) -> tuple[list[float], nn.Module]:
    """One client after another: copy the network, train it, add it to the mean."""
    network, seconds = task.network(), []
    for clients in task.plan:
        started = time.perf_counter()
        mean = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
        for steps in clients:
            own = copy.deepcopy(network)
            job.work(own, task, steps)
            for name, tensor in own.state_dict().items():
                mean[name] += tensor / len(clients)
        network.load_state_dict(mean)
        seconds.append(time.perf_counter() - started)
    return seconds, network


def _theirs(name: str, python: str, folder: str, start: nn.Module) -> tuple[list[float], nn.Module]:
    """The rounds of another package, in a Python that has it.

    Raises:
        GradwireError: the interpreter fails, or lacks the package.
    """
    script = Path(scripts.__file__).with_name(f"by_{name}.py")
    environment = {**_environment(), "PYTHONPATH": str(script.parent)}
    command = [python, str(script), folder]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise GradwireError(f"rounds by {name} cannot be measured with {python}: {error.strerror}") from None
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise GradwireError(f"rounds by {name} cannot be measured with {python}: {last}")
    found = next(line for line in reversed(ran.stdout.splitlines()) if line.startswith('{"seconds"'))
    network = copy.deepcopy(start)
    with np.load(Path(folder) / "end.npz") as end:
        network.load_state_dict({key: torch.from_numpy(end[key]) for key in end.files})
    return json.loads(found)["seconds"], network


def _environment() -> dict[str, str]:
    """This process's, without what would lead another interpreter to this one's packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _of_size(dataset: Dataset, examples: int) -> Dataset:
    """So many examples, from the beginning again where there are fewer."""
    where = torch.arange(examples) % len(dataset)
    return Dataset(dataset.name, dataset.split, dataset.images[where], dataset.labels[where], dataset.classes)


def _steps(settings: TrainSettings, dataset: Dataset) -> Tensor:
    """Positions of the examples of every step, (rounds, clients of a round, steps, B).

    Raises:
        GradwireError: clients whose data do not divide into full batches: others' rounds could not be the same.
    """
    shards = partition.split(settings.partition, dataset.labels, settings.clients, settings.seed)
    if len({len(shard) for shard in shards}) > 1 or len(shards[0]) % settings.batch_size:
        raise GradwireError(f"{len(dataset)} examples do not give {settings.clients} clients full batches each")
    return torch.stack([_round(settings, shards, round) for round in range(settings.rounds)])


def _round(settings: TrainSettings, shards: Sequence[Tensor], round: int) -> Tensor:
    members = sampled(settings, round)
    return torch.stack(
        [shards[i][torch.stack(list(descents(settings, f"client:{i}", len(shards[i]), round).plan))] for i in members]
    )


def _write(folder: str, start: nn.Module, lr: float, dataset: Dataset, steps: Tensor) -> None:
    """The job as the scripts read it."""
    layers = [(name, repr(layer)) for name, layer in start.named_children()]
    (Path(folder) / "job.json").write_text(json.dumps({"layers": layers, "lr": lr}))
    np.savez(
        Path(folder) / "data.npz",
        images=dataset.images.numpy(),
        labels=dataset.labels.numpy(),
        plan=steps.numpy(),
    )
    parameters = {name: tensor.numpy() for name, tensor in start.state_dict().items()}
    np.savez(Path(folder) / "start.npz", **parameters)
