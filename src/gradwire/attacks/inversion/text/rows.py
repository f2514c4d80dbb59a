"""The rows of a matrix's gradient that are not zero, from what was sent of it through any scheme.

- As it is, or quantised (QSGD rounds a zero to zero): rows with an entry that is not zero.
- PowerSGD's P = M·Q: a row of M that is zero is zero in P, and no other one is (Q is random). The decoded P̂·Qᵀ has no
  such rows: the columns of P̂ are made orthonormal, which mixes rounding into some.
- Top-K, Random-K, DGC: rows of which an entry was sent. Of the others nothing is known.
- Signs: the sign of zero counts as positive, so a row of zeros has no negative entry; one of m entries that are not zero
  has none with a probability of about 2^−m.
- Noise on top: rows that are longer than noise makes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Signs, Support, Term

CHANCE = 0.5
"""Rows of noise alone that are expected to be taken for others, in the whole matrix."""


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a gradient (n, m).

    Attributes:
        strength: how much was seen of each row, (n,): a norm, or of signs the share that is negative.
        values: what is known of the entries, (n, m), zero elsewhere; `known`, 1 where something is.
    """

    strength: Tensor
    values: Tensor
    known: Tensor

    @property
    def active(self) -> Tensor:
        """The numbers of the rows that are not zero, int64, ascending."""
        return self.strength.nonzero()[:, 0]


def read(terms: Sequence[Term], shape: tuple[int, int], deviation: float = 0.0) -> Rows:
    """Read one victim's terms about a matrix of a shape (n, m).

    Args:
        deviation: of noise in each entry; rows that noise alone explains count as zero.
    """
    rows, width = shape
    strength, values, known = torch.zeros(rows), torch.zeros(shape), torch.zeros(shape)
    sketched = False
    for term in (term.to("cpu", torch.float32) for term in terms):
        if isinstance(term, RightSketch):
            seen = term.observed[0]
            strength, sketched = _beyond(seen, seen.shape[1], deviation), True
        elif isinstance(term, LeftSketch):
            # P̂·P̂ᵀ·M, the nearest to M that the sketch tells.
            values, known = term.left[0] @ term.observed[0].mT, torch.ones(shape)
        elif isinstance(term, Support):
            where = term.indices[0][term.weight[0] > 0]
            values = values.flatten().index_put((where,), term.observed[0][term.weight[0] > 0]).view(shape)
            known = known.flatten().index_fill(0, where, 1.0).view(shape)
        elif isinstance(term, Signs):
            values = term.observed[0].reshape(shape).sign()
            known = (values != 0).float()
            strength, sketched = (values < 0).float().mean(1), True
        elif isinstance(term, Dense):
            values, known = term.observed[0].reshape(shape), torch.ones(shape)
    if not sketched:
        strength = _beyond(values, width, deviation)
    return Rows(strength, values, known)


def _beyond(seen: Tensor, width: int, deviation: float) -> Tensor:
    """The norm of each row, zero where it is no longer than noise makes one row in n/CHANCE."""
    norms = seen.norm(dim=1)
    if not deviation:
        return norms
    from scipy.stats import chi2  # type: ignore[import-untyped]

    limit = deviation * float(chi2.isf(CHANCE / len(seen), width)) ** 0.5
    return torch.where(norms > limit, norms, 0.0)
