"""Which clients a round has and which examples they see in it: functions of the seed, so that a resumed run sees the
same."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradwire.seeds import generator
from gradwire.training.client import Descent
from gradwire.training.settings import TrainSettings, learning_rate
from gradwire.wire import client


def sampled(settings: TrainSettings, round: int) -> tuple[int, ...]:
    """The numbers of a round's clients, ascending; every set of that size is as likely as any other."""
    if settings.sample is None:
        return tuple(range(settings.clients))
    order = torch.randperm(settings.clients, generator=generator("sample", settings.seed, round))
    return tuple(sorted(order[: settings.sample].tolist()))


def descents(settings: TrainSettings, client: str, examples: int, round: int) -> Descent:
    """What a client of so many examples does in a round.

    A number of steps goes on through the data where the round before left off, as if there had been no rounds that
    the client was not in. Epochs are whole ones, each in a new order; their last batch may be smaller, or is left out.
    Of Poisson batches there are as many, and a pass counts as one in expectation.
    """
    every = torch.arange(examples)
    own = 1.0, 0.0, 0.0
    if settings.local:
        own = learning_rate(settings, round), settings.momentum, settings.weight_decay
    if (rate := settings.rate(examples)) is not None:
        steps = len(step_sizes(settings, examples))
        numbers = range(round * steps, (round + 1) * steps)
        batches = [poisson_batch(examples, client, number, rate, settings.seed) for number in numbers]
        # A rate that is given says nothing of how many examples there are, and neither may the divisor.
        expected = settings.batch_size if ":" in settings.sampling else min(settings.batch_size, examples)
        passes = [int(number * rate) for number in numbers]
        return Descent(batches, passes, *own, local=settings.local, rate=rate, expected=expected)
    if settings.local_epochs is None:
        steps = settings.local_steps or 1
        numbers = range(round * steps, (round + 1) * steps)
        batches = [batch_indices(every, client, number, settings.batch_size, settings.seed) for number in numbers]
        epochs = [number // (examples // len(batches[0])) for number in numbers]
    else:
        whole = range(round * settings.local_epochs, (round + 1) * settings.local_epochs)
        sizes = step_sizes(settings, examples)
        sizes = sizes[: len(sizes) // settings.local_epochs]
        used = sum(sizes)
        batches = [batch for e in whole for batch in _epoch(every, client, e, settings.seed)[:used].split(sizes)]
        epochs = [epoch for epoch in whole for _ in sizes]
    return Descent(batches, epochs, *own, local=settings.local)


def step_sizes(settings: TrainSettings, examples: int) -> list[int]:
    """Examples in each step that a client of so many takes in a round."""
    size = min(settings.batch_size, examples)
    if settings.local_epochs is None:
        return [size] * (settings.local_steps or 1)
    sizes = [size] * (examples // size)
    if examples % size and not settings.drop_last:
        sizes.append(examples % size)
    return sizes * settings.local_epochs


def batch_indices(shard: Tensor, client: str, round: int, batch_size: int, seed: int) -> Tensor:
    """Positions of a client's batch in a round, shape (min(batch_size, len(shard)),).

    The client walks through its shard in a new random order every epoch; batches do not straddle epochs.
    """
    size = min(batch_size, len(shard))
    epoch, step = divmod(round, len(shard) // size)
    return _epoch(shard, client, epoch, seed)[step * size : (step + 1) * size]


def poisson_batch(examples: int, client: str, number: int, rate: float, seed: int) -> Tensor:
    """Positions of the examples that a client's step has, each with probability `rate`; there may be none.

    Their coins are the client's own, as its noise is: a seed decides both here, so that a run can be repeated.
    """
    coins = torch.rand(examples, generator=generator("poisson", seed, client, number))
    return (coins < rate).nonzero().squeeze(1)


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
