"""The rows of a matrix's gradient that are not zero, from what was sent of it through any scheme.

- As it is, or quantised (QSGD rounds a zero to zero): rows with an entry that is not zero.
- PowerSGD's P = M·Q: a row of M that is zero is zero in P, and no other one is (Q is random). The decoded P̂·Qᵀ has
  no such rows: the columns of P̂ are made orthonormal, which mixes rounding into some.
- Top-K, Random-K, DGC: rows of which an entry was sent. Of the others nothing is known.
- Signs: the sign of zero counts as positive, so a row of zeros has no negative entry; one of m entries that are not
  zero has none with a probability of about 2^−m.
- Noise on top: rows that are longer than noise makes them.

A head that scores tokens has a gradient in every row, row v being Σ_t (p_t(v) − 1[v is due at t])·h_t. Rows of tokens
that are due nowhere are then about p(v)·Σ h_t, p(v) being what the network, which the adversary has, gives on
average.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Signs, Support, Term

CHANCE = 0.05
"""Rows of noise alone that are expected to be taken for others, in the whole matrix."""
TINY = 1e-30


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a gradient (n, m).

    Attributes:
        strength: how much was seen of each row, (n,): a norm, or of signs the share that is negative.
        seen: the rows as they were sent, (n, k): of the sketch, where there is one. `told`: 1 where an entry was sent.
        values: what is known of the entries themselves, (n, m), zero elsewhere; `known`: 1 where something is.
        signs: whether `seen` holds signs.
    """

    strength: Tensor
    seen: Tensor
    told: Tensor
    values: Tensor
    known: Tensor
    signs: bool = False

    @property
    def active(self) -> Tensor:
        """The numbers of the rows that are not zero, int64, ascending."""
        return self.strength.nonzero()[:, 0]

    def beside(self, expected: Tensor, absent: Tensor) -> "Rows":
        """The rows less what a head leaves in those of tokens that are due nowhere.

        Args:
            expected: p(v), (n,).
            absent: rows that are held to be of such tokens, bool (n,): Σ h_t is fitted to them.
        """
        weight = absent[:, None] * self.told
        if self.signs:
            # The sign of p(v)·Σ h_t is that of Σ h_t: the rows vote on it.
            common = (weight * self.seen).sum(0).sign()
            rest = (self.seen - common) * self.told
        else:
            p = expected[:, None]
            common = (weight * p * self.seen).sum(0) / (weight * p * p).sum(0).clamp_min(TINY)
            rest = (self.seen - p * common) * self.told
        return replace(self, strength=rest.norm(dim=1))


def read(terms: Sequence[Term], shape: tuple[int, int], deviation: float = 0.0) -> Rows:
    """Read one victim's terms about a matrix of a shape (n, m).

    Args:
        deviation: of noise in each entry; rows that noise alone explains count as zero.
    """
    values, known = torch.zeros(shape), torch.zeros(shape)
    sketch: Tensor | None = None
    signs = False
    for term in (term.to("cpu", torch.float32) for term in terms):
        if isinstance(term, RightSketch):
            sketch = term.observed[0]
        elif isinstance(term, LeftSketch):
            # P̂·P̂ᵀ·M, the nearest to M that the sketch tells.
            values, known = term.left[0] @ term.observed[0].mT, torch.ones(shape)
        elif isinstance(term, Support):
            where = term.indices[0][term.weight[0] > 0]
            values = values.flatten().index_put((where,), term.observed[0][term.weight[0] > 0]).view(shape)
            known = known.flatten().index_fill(0, where, 1.0).view(shape)
        elif isinstance(term, Signs):
            values, signs = term.observed[0].reshape(shape).sign(), True
            known = (values != 0).float()
        elif isinstance(term, Dense):
            values, known = term.observed[0].reshape(shape), torch.ones(shape)
    seen, told = (values, known) if sketch is None else (sketch, torch.ones_like(sketch))
    strength = (values < 0).float().mean(1) if signs else _beyond(seen, deviation)
    return Rows(strength, seen, told, values, known, signs)


def similarity(one: Rows, other: Rows) -> Tensor:
    """The cosine of each row of one with each row of the other, over the entries known of both: (n, n')."""
    inner = one.values @ other.values.mT
    sizes = (one.values.square() @ other.known.mT) * (one.known @ other.values.square().mT)
    return inner / sizes.sqrt().clamp_min(TINY)


def _beyond(seen: Tensor, deviation: float) -> Tensor:
    """The norm of each row, zero where it is no longer than noise makes one row in n/CHANCE."""
    norms = seen.norm(dim=1)
    if not deviation:
        return norms
    from scipy.stats import chi2  # type: ignore[import-untyped]

    limit = deviation * float(chi2.isf(CHANCE / len(seen), seen.shape[1])) ** 0.5
    return torch.where(norms > limit, norms, 0.0)
