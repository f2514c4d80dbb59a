"""How many tokens a batch's sentences have, and a first order of them, from the rows of tokens and of positions.

Both tables receive the slope at the same place: the gradient of a position's row is the sum of the slopes of the
tokens that stand there, so that a token that occurs once has the row of its position, if one sentence is sought, or
is a summand of it, if there are several.
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
        lengths: of the sentences as far as they are inputs, the longest first, int64 (B,).
        told: whether the lengths follow from the rows, or all are taken to be the longest.
    """

    scores: Tensor
    lengths: Tensor
    told: bool


def likely(tokens: Rows, positions: Rows, words: Tensor, framing: Tensor, places: Tensor, batch: int) -> Likely:
    """Compare the rows of tokens with those of the positions of `batch` sentences.

    Args:
        words: tokens, int64 (W,), and `framing`, those that every sentence begins or ends with.
        places: rows of the positions up to the longest sentence's end, int64 (n,).
    """
    longest = torch.full((batch,), len(places))
    whole = bool(tokens.known.all() & positions.known.all())
    if batch > 1 and whole and len(words) + len(framing) <= tokens.values.shape[1]:
        shares = _shares(tokens.values[torch.cat([words, framing])], positions.values[places])
        if shares is not None:
            # A token that occurs often is in other rows than its own, so that sums are too large rather than too small.
            counts = shares.sum(1).round().clamp(1, batch)
            counts[: len(framing) > 0] = batch
            lengths = (counts.cummin(0).values[None] > torch.arange(batch)[:, None]).sum(1)
            return Likely(shares[:, : len(words)].float(), lengths, True)
    return Likely(similarity(tokens, positions)[words][:, places].T, longest, batch == 1)


def _shares(summands: Tensor, sums: Tensor) -> Tensor | None:
    """Not negative X (n, W) with X·summands ≈ sums, or None where there are none that are near."""
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    matrix, found = summands.double().T.numpy(), []
    for row in sums.double():
        shares, off = nnls(matrix, row.numpy())
        if off > RELIABLE * float(row.norm()):
            return None
        found.append(torch.from_numpy(shares))
    return torch.stack(found)


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
