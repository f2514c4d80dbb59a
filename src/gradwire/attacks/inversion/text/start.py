"""How many tokens a batch's sentences have, and a first order of them, from the rows of tokens and of positions.

Both tables receive the slope at the same place: the gradient of a position's row is the sum of the slopes of the tokens
that stand there, so that a token that occurs once has the row of its position, if one sentence is sought, or is a summand
of it, if there are several.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.rows import Rows, similarity
from gradwire.tasks import Tokens

RELIABLE = 0.1
"""The largest relative error up to which positions' rows count as sums of tokens' rows."""


class Likely(NamedTuple):
    """What rows say of an order.

    Attributes:
        scores: how likely each token is at each position, (n, W).
        lengths: of the sentences, the longest first, int64 (B,).
        told: whether the lengths follow from the rows, or all are taken to be the longest.
    """

    scores: Tensor
    lengths: Tensor
    told: bool


def likely(tokens: Rows, positions: Rows, words: Tensor, length: int, first: int, batch: int) -> Likely:
    """Compare the rows of some tokens (W,) with those of the positions of `batch` sentences.

    Args:
        length: of the longest sentence, as far as its places are inputs.
        first: the row of the first position.
    """
    places = first + torch.arange(length)
    longest = torch.full((batch,), length)
    if batch > 1 and bool(tokens.known.all() & positions.known.all()) and len(words) <= tokens.values.shape[1]:
        summands, sums = tokens.values[words].double(), positions.values[places].double()
        shares = torch.linalg.lstsq(summands.T, sums.T).solution.T
        if float((shares @ summands - sums).norm()) <= RELIABLE * float(sums.norm()):
            counts = shares.sum(1).round().clamp(1, batch).long().flip(0).cummax(0).values.flip(0)
            lengths = (counts[None] > torch.arange(batch)[:, None]).sum(1)
            return Likely(shares.float(), lengths, True)
    return Likely(similarity(tokens, positions)[words][:, places].T, longest, batch == 1)


def framed(length: int, lengths: Tensor, domain: Tokens, behind: int) -> tuple[Tensor, Tensor]:
    """A batch (B, length) with what all know of it, and which places are open, bool.

    Args:
        behind: tokens behind those that are inputs: 1 where the last is a target only.
    """
    pad = 0 if domain.pad is None else domain.pad
    batch = torch.full((len(lengths), length), pad)
    free = torch.arange(length) < (lengths + behind)[:, None]
    for row, end in enumerate((lengths + behind).tolist()):
        for known, place in ((domain.first, 0), (domain.last, end - 1)):
            if known is not None:
                batch[row, place], free[row, place] = known, False
    return batch, free
