"""The clients of a round train: one after another, or as one batch where nothing is in the way of that; and where the
device is a CPU, in as many processes as PyTorch has threads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradwire.data import Dataset
from gradwire.schemes import Layout, Round, Scheme, State
from gradwire.seeds import number
from gradwire.training.batches import epochs, plan
from gradwire.training.contribution import Contribution, contribution, drawing
from gradwire.training.forks import AVAILABLE, Came, Forks, Lot, dealt
from gradwire.training.local import Descent
from gradwire.training.optimizer import learning_rate
from gradwire.training.settings import TrainSettings
from gradwire.training.stack import Networks, Stack, descend, stack
from gradwire.wire import client


@dataclass(frozen=True)
class Way:
    """How a cohort trains.

    Attributes:
        stack: what runs the clients' networks as one batch; None: one client after another.
        size: networks in one batch, at most.
        processes: that train batches, or clients, side by side, this one among them.
        notes: what a report has to say of it.
        forks: the others, once they run.
    """

    stack: Stack | None
    size: int = 1
    processes: int = 1
    notes: tuple[str, ...] = ()
    forks: Forks | None = None


LIMIT, ELSEWHERE = 1 << 26, 1 << 32
"""Bytes of parameters in one batch of networks on a CPU (more do not fit its caches), and on other devices."""
TOGETHER = 5
"""Networks in one batch on a CPU: more gain little, and leave other processes none."""
FEW = 64
"""Steps of all clients of a round; for fewer, other processes would take longer to begin than to train."""


def way(
    settings: TrainSettings, scheme: Scheme, model: nn.Module, dataset: Dataset, shards: Sequence[Tensor], count: int
) -> Way:
    """The faster way for this model and device; it depends on shapes alone, so that a seed gives the same table.

    How many processes there are changes nothing: they deal out the same batches of networks.

    Args:
        count: clients of a round that train in this process, or in others beside it.
    """
    if count == 1 or not settings.local:
        # One gradient each: copying the parameters for every client would cost as much as the step.
        return Way(None)
    alone = "clients train one after another"
    if scheme.practice is not None:
        return Way(None, notes=(f"{alone}: {scheme.name} has a say in each step",))
    on_cpu = torch.device(settings.device).type == "cpu"
    engine = stack(model, dataset.shape, ragged=_ragged(settings, shards), device=settings.device)
    size, says = 1, alone + "".join(f"; {r}" for r in engine.reasons)
    if engine.path != "plain":
        limit = (LIMIT if on_cpu else ELSEWHERE) // (4 * Layout.of_model(model).size)
        size = max(1, min(count, limit, TOGETHER if on_cpu else count))
        says = f"clients train {size} at a time, as one batch, by the {engine.path} path"
    steps = count * len(plan(settings, "", max(map(len, shards)), 0))
    processes = min(torch.get_num_threads(), len(_lots(range(count), size)))
    if not (on_cpu and AVAILABLE and steps >= FEW):
        processes = 1
    if processes > 1:
        says = f"in {processes} processes {says}"
    return Way(None if engine.path == "plain" else engine, size, processes, (says,))


def _ragged(settings: TrainSettings, shards: Sequence[Tensor]) -> bool:
    """Whether clients differ in their numbers of steps, or steps in their numbers of examples."""
    lengths = [[len(batch) for batch in plan(settings, "", len(shard), 0)] for shard in shards]
    return any(each != lengths[0] for each in lengths) or len(set(lengths[0])) > 1


@contextmanager
def staffed(
    chosen: Way, model: nn.Module, settings: TrainSettings, scheme: Scheme, dataset: Dataset, shards: Sequence[Tensor]
) -> Iterator[Way]:
    """The same way, with its other processes running for a while."""
    if chosen.processes == 1:
        yield chosen
        return
    layout, own = Layout.of_model(model), {client(i): shard for i, shard in enumerate(shards)}

    def train(index: int, lot: Lot) -> Mapping[str, Contribution]:
        round, data = Round(index, lot, settings.seed, layout), {party: own[party] for party in lot}
        return _lot(model, settings, scheme, dataset, data, {party: {} for party in lot}, round, chosen.stack)

    rows = max(len(lane) for lane in dealt(_lots(range(settings.cohort), chosen.size), chosen.processes)) * chosen.size
    forks = Forks(chosen.processes - 1, model, rows, train)
    try:
        yield replace(chosen, forks=forks)
    finally:
        forks.close()


def contributions(
    model: nn.Module,
    settings: TrainSettings,
    scheme: Scheme,
    dataset: Dataset,
    shards: Mapping[str, Tensor],
    private: Mapping[str, State],
    round: Round,
    chosen: Way,
) -> dict[str, Contribution]:
    """What each of these clients (party → positions of its examples) comes to the round's exchange with."""
    parties, found = list(shards), dict[str, Contribution]()
    lots = _lots(parties, chosen.size)

    def here(lot: Lot) -> None:
        own = {party: shards[party] for party in lot}
        found.update(_lot(model, settings, scheme, dataset, own, private, round, chosen.stack))

    if chosen.forks is None:
        for lot in lots:
            here(lot)
    else:
        came = chosen.forks.run(round.index, lots, here)
        found |= {party: Contribution(*each, private[party]) for party, each in came.items()}
    return {party: found[party] for party in parties}


T = TypeVar("T")


def _lots(parties: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """At most so many of them at a time, and about as many each time."""
    count = -(-len(parties) // size)
    ends = [len(parties) * i // count for i in range(count + 1)]
    return [tuple(parties[a:b]) for a, b in pairwise(ends)]


def _lot(
    model: nn.Module,
    settings: TrainSettings,
    scheme: Scheme,
    dataset: Dataset,
    shards: Mapping[str, Tensor],
    private: Mapping[str, State],
    round: Round,
    engine: Stack | None,
) -> dict[str, Contribution]:
    """What some clients that train together come with, or one that trains alone."""
    rate = learning_rate(settings, round.index)
    work = {
        party: Descent(
            plan(settings, party, len(shard), round.index),
            epochs(settings, len(shard), round.index),
            rate,
            settings.momentum,
            settings.weight_decay,
        )
        for party, shard in shards.items()
    }
    if engine is not None:
        with drawing(number("training", round.seed, round.index, *shards), settings.device):
            came = _together(model, dataset, list(shards.values()), list(work.values()), engine)
        return {party: Contribution(*each, private[party]) for party, each in zip(shards, came, strict=True)}
    found = {}
    for party, shard in shards.items():
        used = shard if settings.local else shard[work[party].plan[0]]
        images, labels = (tensor.to(settings.device) for tensor in dataset.batch(used))
        steps, own = work[party] if settings.local else None, private[party]
        found[party] = contribution(
            model, images, labels, scheme, party, own, round, steps, examples=len(shard), finite=False
        )
    return found


def _together(
    model: nn.Module, dataset: Dataset, shards: Sequence[Tensor], work: Sequence[Descent], engine: Stack
) -> list[Came]:
    """Several clients as one batch. Those with fewer or smaller batches are filled up with what counts for nothing."""
    networks, sgd = Networks.repeat(model, len(shards)), work[0]
    device = next(iter(networks.parameters.values())).device
    total = torch.zeros(len(shards), dtype=torch.float64, device=device)
    seen = torch.zeros_like(total)
    for index in range(max(len(each.plan) for each in work)):
        where, counted = _batch(
            [
                own[each.plan[index]] if index < len(each.plan) else own[:0]
                for own, each in zip(shards, work, strict=True)
            ]
        )
        images, labels = (tensor.to(device).unflatten(0, where.shape) for tensor in dataset.batch(where.flatten()))
        full, counts = bool(counted.all()), counted.sum(1).to(device)
        slopes = engine.slopes(networks, images, labels, None if full else counted.to(images))
        active = None if full else counts > 0
        networks = descend(networks, slopes, sgd.lr, sgd.momentum, sgd.weight_decay, active)
        total, seen = total + slopes.losses * counts, seen + counts
    losses, before = (total / seen).tolist(), dict(model.named_parameters())
    sent = {name: (before[name].detach() - after).cpu() for name, after in networks.parameters.items()}
    return [
        (loss, {n: t[i] for n, t in sent.items()}, {n: b[i] for n, b in networks.buffers.items()})
        for i, loss in enumerate(losses)
    ]


def _batch(positions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Positions of every client's examples, shape (N, B), and which of them count."""
    sizes = torch.tensor([len(each) for each in positions])
    where = torch.nn.utils.rnn.pad_sequence(list(positions), batch_first=True)
    return where, torch.arange(where.shape[1]) < sizes[:, None]
