"""The clients of a round train: one after another, or as one batch where nothing is in the way of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradwire.data import Dataset
from gradwire.schemes import Layout, Round, Scheme, State
from gradwire.seeds import number
from gradwire.training.batches import epochs, plan
from gradwire.training.contribution import Contribution, contribution, drawing
from gradwire.training.local import Descent
from gradwire.training.optimizer import learning_rate
from gradwire.training.settings import TrainSettings
from gradwire.training.stack import Networks, Stack, descend, stack


@dataclass(frozen=True)
class Way:
    """How a cohort trains.

    Attributes:
        stack: what runs the clients' networks as one batch; None: one client after another.
        size: networks in one batch, at most.
        notes: what a report has to say of it.
    """

    stack: Stack | None
    size: int = 1
    notes: tuple[str, ...] = ()


LIMITS = {"cpu": 1 << 26}
"""Bytes of parameters in one batch of networks, by kind of device: more do not help there, and do not fit a cache."""
ELSEWHERE = 1 << 32


def way(
    settings: TrainSettings, scheme: Scheme, model: nn.Module, dataset: Dataset, shards: Sequence[Tensor], count: int
) -> Way:
    """The faster way for this model and device; it depends on shapes alone, so that a seed gives the same table.

    Args:
        count: clients of a round that train in this process.
    """
    if count == 1 or not settings.local:
        # One gradient each: copying the parameters for every client would cost as much as the step.
        return Way(None)
    alone = "clients train one after another"
    if scheme.practice is not None:
        return Way(None, notes=(f"{alone}: {scheme.name} has a say in each step",))
    kind = torch.device(settings.device).type
    engine = stack(model, dataset.shape, ragged=_ragged(settings, shards), device=settings.device)
    if engine.path == "plain":
        return Way(None, notes=(alone + "".join(f"; {r}" for r in engine.reasons),))
    limit = LIMITS.get(kind, ELSEWHERE) // (4 * Layout.of_model(model).size)
    size = min(count, max(1, limit))
    return Way(engine, size, (f"clients train {size} at a time, as one batch, by the {engine.path} path",))


def _ragged(settings: TrainSettings, shards: Sequence[Tensor]) -> bool:
    """Whether clients differ in their numbers of steps, or steps in their numbers of examples."""
    lengths = [[len(batch) for batch in plan(settings, "", len(shard), 0)] for shard in shards]
    return any(each != lengths[0] for each in lengths) or len(set(lengths[0])) > 1


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

    def alone(party: str) -> dict[str, Contribution]:
        shard, own = shards[party], private[party]
        used = shard if settings.local else shard[work[party].plan[0]]
        images, labels = (tensor.to(settings.device) for tensor in dataset.batch(used))
        steps, size = work[party] if settings.local else None, len(shard)
        came = contribution(model, images, labels, scheme, party, own, round, steps, examples=size, finite=False)
        return {party: came}

    def together(lot: Sequence[str]) -> dict[str, Contribution]:
        assert chosen.stack is not None
        with drawing(number("training", round.seed, round.index, *lot), settings.device):
            came = _together(model, dataset, [shards[p] for p in lot], [work[p] for p in lot], chosen.stack)
        return {party: Contribution(*each, private[party]) for party, each in zip(lot, came, strict=True)}

    found: dict[str, Contribution] = {}
    parties = list(shards)
    for start in range(0, len(parties), chosen.size):
        lot = parties[start : start + chosen.size]
        found |= alone(lot[0]) if chosen.stack is None else together(lot)
    return found


Came = tuple[float, dict[str, Tensor], dict[str, Tensor]]
"""A loss, an update on the CPU, and buffers."""


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
