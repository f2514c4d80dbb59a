"""Which examples a client sees in which round: a function of the seed, so that a resumed run sees the same."""

import torch
from torch import Tensor

from gradwire.seeds import generator


def batch_indices(shard: Tensor, client: str, round: int, batch_size: int, seed: int) -> Tensor:
    """Positions of a client's batch in a round, shape (min(batch_size, len(shard)),).

    The client walks through its shard in a new random order every epoch; batches do not straddle epochs.
    """
    size = min(batch_size, len(shard))
    per_epoch = len(shard) // size
    epoch, step = divmod(round, per_epoch)
    order = torch.randperm(len(shard), generator=generator("batches", seed, client, epoch))
    return shard[order[step * size : (step + 1) * size]]
