"""What a shadow model costs: whole epochs, by ordinary PyTorch, by plain steps, and over the wire."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from gradwire import data
from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import schedule
from gradwire.training.plain import Speed, fit, resident

EXACT = Speed()
"""Plain steps in float32, nothing compiled."""


@dataclass(frozen=True)
class Epoch:
    """An epoch of one of `networks` that were trained together by one method, `way`: medians over repeats.

    Attributes:
        seconds: the measured time ÷ networks.
        processor: seconds of the CPU in that time, all threads together, which other work changes less.
        ratio: the ordinary loop's `processor` ÷ this one on a CPU; of `seconds` elsewhere.
    """

    way: str
    networks: int
    seconds: float
    processor: float
    ratio: float


def epochs(
    model: str,
    dataset: Dataset,
    schemes: Sequence[str] = ("none", "topk:ratio=0.01"),
    clients: int = 4,
    batch_size: int = 64,
    together: Sequence[int] = (8,),
    speed: Speed = EXACT,
    device: str = "cpu",
    repeats: int = 3,
) -> Iterator[Epoch]:
    """Whole epochs over a data set, by each method in turn; nothing is extrapolated.

    The first method is the ordinary loop with `DataLoader` and `torch.optim.SGD`. Then come plain steps of one network,
    and of several as one batch; last, `clients` clients with an equal part of each batch, with every scheme.

    Raises:
        GradwireError: fewer images than a batch, or a batch that clients cannot share equally.
    """
    if batch_size % clients or len(dataset) < batch_size:
        needs = f"{clients} clients must share it, {len(dataset)} images fill it"
        raise GradwireError(f"batch_size is {batch_size}; {needs}")
    settings = TrainSettings(clients=1, batch_size=batch_size, rounds=len(dataset) // batch_size, device=device)

    def network(seed: int) -> nn.Module:
        return dataset.network(model, seed)

    def plain(count: int) -> None:
        shards = [partition.split("iid", dataset.targets, 1, seed) for seed in range(count)]
        schedules = [schedule(shard, settings.rounds, batch_size, seed) for seed, shard in enumerate(shards)]
        runs = [begin(replace(settings, seed=seed), network(seed)) for seed in range(count)]
        fit(runs, settings, dataset.task, resident(dataset, device), schedules, speed)

    def wired(scheme: str) -> None:
        run = replace(settings, scheme=scheme, clients=clients, batch_size=batch_size // clients)
        train(begin(run, network(0)), run, dataset)

    first: list[float] = []

    def measured(method: str, networks: int, function: Callable[[], None], times: int = repeats) -> Epoch:
        wall, processor = (value / networks for value in _seconds(function, device, times))
        decisive = processor if device == "cpu" else wall
        first.append(decisive)
        return Epoch(method, networks, wall, processor, first[0] / decisive)

    yield measured("DataLoader and SGD", 1, lambda: _ordinary(network(0).to(device), dataset, settings))
    for count in (1, *together):
        yield measured("plain steps" + (" together" if count > 1 else ""), count, partial(plain, count))
    for scheme in schemes:
        yield measured(f"{clients} clients, {scheme}", 1, partial(wired, scheme), 1)


def pool(name: str, images: int) -> Dataset:
    """The first training images of a data set.

    Raises:
        GradwireError: it has fewer.
    """
    found = data.load(name, "train", images)
    if len(found) < images:
        raise GradwireError(f"images is {images}; {name} has {len(found)} for training")
    return found


def _ordinary(model: nn.Module, dataset: Dataset, settings: TrainSettings) -> None:
    whole = TensorDataset(*dataset.batch(range(len(dataset))))
    loader = DataLoader(whole, settings.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, settings.momentum)
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        cross_entropy(model(x.to(settings.device)), y.to(settings.device)).backward()
        optimizer.step()


def _seconds(function: Callable[[], None], device: str, repeats: int) -> tuple[float, float]:
    """The medians, over some calls, of wall time until the device is done, and of processor time."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return median(walls), median(processors)
