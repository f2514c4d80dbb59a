"""Which clients a round has and which examples they see in it: functions of the seed, so that a resumed run sees the
same."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradwire.seeds import generator
from gradwire.training.settings import TrainSettings
from gradwire.wire import client


def sampled(settings: TrainSettings, round: int) -> tuple[int, ...]:
    """The numbers of a round's clients, ascending; every set of that size is as likely as any other."""
    if settings.sample is None:
        return tuple(range(settings.clients))
    order = torch.randperm(settings.clients, generator=generator("sample", settings.seed, round))
    return tuple(sorted(order[: settings.sample].tolist()))


def plan(settings: TrainSettings, client: str, examples: int, round: int) -> list[Tensor]:
    """What a client of so many examples uses in each step of a round: positions among them.

    A number of steps goes on through the data where the round before left off, as if there had been no rounds that
    the client was not in. Epochs are whole ones, each in a new order; their last batch may be smaller.
    """
    every = torch.arange(examples)
    if settings.local_epochs is None:
        steps = settings.local_steps or 1
        numbers = range(round * steps, (round + 1) * steps)
        return [batch_indices(every, client, number, settings.batch_size, settings.seed) for number in numbers]
    epochs = range(round * settings.local_epochs, (round + 1) * settings.local_epochs)
    orders = (_epoch(every, client, epoch, settings.seed) for epoch in epochs)
    return [batch for order in orders for batch in order.split(settings.batch_size)]


def epochs(settings: TrainSettings, examples: int, round: int) -> list[int]:
    """Which of the client's passes over its data each step of `plan` belongs to: in one, no example is used twice."""
    size = min(settings.batch_size, examples)
    if settings.local_epochs is None:
        steps = settings.local_steps or 1
        return [number // (examples // size) for number in range(round * steps, (round + 1) * steps)]
    whole = range(round * settings.local_epochs, (round + 1) * settings.local_epochs)
    return [epoch for epoch in whole for _ in range(-(-examples // size))]


def batch_indices(shard: Tensor, client: str, round: int, batch_size: int, seed: int) -> Tensor:
    """Positions of a client's batch in a round, shape (min(batch_size, len(shard)),).

    The client walks through its shard in a new random order every epoch; batches do not straddle epochs.
    """
    size = min(batch_size, len(shard))
    epoch, step = divmod(round, len(shard) // size)
    return _epoch(shard, client, epoch, seed)[step * size : (step + 1) * size]


def schedule(shards: Sequence[Tensor], rounds: int, batch_size: int, seed: int) -> Tensor:
    """All clients' batches of rounds 0 to `rounds` − 1 side by side, shape (rounds, Σ min(batch_size, len(shard)))."""
    columns = []
    for index, shard in enumerate(shards):
        size = min(batch_size, len(shard))
        steps = len(shard) // size
        epochs = [_epoch(shard, client(index), epoch, seed)[: steps * size] for epoch in range(-(-rounds // steps))]
        walked = torch.stack(epochs) if epochs else shard.new_empty(0)
        columns.append(walked.view(-1, size)[:rounds])
    return torch.cat(columns, 1)


def _epoch(shard: Tensor, client: str, epoch: int, seed: int) -> Tensor:
    return shard[torch.randperm(len(shard), generator=generator("batches", seed, client, epoch))]
