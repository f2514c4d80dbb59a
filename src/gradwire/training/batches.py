"""Which examples a client sees in which round: a function of the seed, so that a resumed run sees the same."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradwire.seeds import generator
from gradwire.wire import client


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
