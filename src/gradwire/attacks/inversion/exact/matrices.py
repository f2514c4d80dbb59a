"""A parameter's whole gradient, where what was sent determines it: sent as it is, or through two sketches.

Sketches G·Q and Gᵀ·P of a matrix G of rank k hold all of it where the core Pᵀ·G·Q has rank k, too:
G = (G·Q)·(PᵀGQ)⁺·(PᵀG), the identity behind the generalised Nyström method (Y. Nakatsukasa, "Fast and stable
randomized low-rank matrix approximation", 2020). The rank of a linear layer's gradient is no more than the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Support, Term

ROUNDING = 8.0
"""Singular values below so many times the type's precision, of the largest one, are rounding."""
INSIDE = 1e-5
"""The share of a sketch G·Q outside the span of P that is rounding."""


@dataclass(frozen=True)
class SketchedMatrix:
    """What two sketches tell of a matrix.

    Attributes:
        rank: of what was sent, the lesser of the two sketches' ranks.
        matrix: the matrix, float64 (n, m), where all of it follows; None where it may be another one.
    """

    rank: int
    matrix: Tensor | None


def rank(matrix: Tensor) -> int:
    """How many singular values of a matrix (n, m) are more than rounding of its own type."""
    if not matrix.numel() or not bool(matrix.isfinite().all()):
        return 0
    sizes = torch.linalg.svdvals(matrix.double())
    return int((sizes > ROUNDING * torch.finfo(matrix.dtype).eps * sizes[0]).sum())


def from_sketches(right: RightSketch | None, left: LeftSketch | None, most: int | None) -> SketchedMatrix:
    """What G·Q and Gᵀ·P tell of G; a missing one tells nothing.

    The rank of G is known where both sketches have as large a one as G can have, and where both have a smaller one than
    columns: a Q or P that does not depend on G misses a further direction of it with probability zero. All of G follows
    where its core has this rank, too.

    Args:
        most: the rank that G can have at most; None where only its shape bounds it.
    """
    sent = [term.observed[0] for term in (right, left) if term is not None]
    ranks, columns = [rank(each) for each in sent], min(each.shape[1] for each in sent)
    found = min(ranks)
    nothing = SketchedMatrix(found, None)
    if right is None or left is None:
        return nothing
    y, z, p = right.observed[0].double(), left.observed[0].double(), left.left[0].double()
    if found < min(len(y), len(z), len(z) if most is None else most) and max(ranks) >= columns:
        return nothing
    within, triangle = torch.linalg.qr(p)
    seen = torch.linalg.pinv(triangle).mT @ z.mT
    if float((y - within @ (within.mT @ y)).norm()) <= INSIDE * float(y.norm()):
        # P spans all columns of G, so that G = P·P⁺·G, which amplifies no rounding.
        return SketchedMatrix(found, within @ seen)
    u, s, v = torch.linalg.svd(within.mT @ y)
    if float(s[found - 1]) <= ROUNDING * torch.finfo(right.observed.dtype).eps * float(torch.linalg.svdvals(y)[0]):
        return nothing
    return SketchedMatrix(found, y @ (v[:found].mT / s[:found]) @ u[:, :found].mT @ seen)


def whole(terms: Sequence[Term], shape: Sequence[int], most: int | None = None) -> Tensor | None:
    """A parameter's gradient, float64 of its shape, where terms determine all of it; None where they do not."""
    for term in terms:
        if as_sent(term):
            return term.observed[0].double().view(*shape)
        if isinstance(term, Support) and len(positions(term)) == prod(shape):
            values, sent = torch.zeros(prod(shape), dtype=torch.float64), term.weight[0] > 0
            values[term.indices[0][sent].cpu()] = term.observed[0][sent].double().cpu()
            return values.view(*shape)
    right, left = sketches(terms)
    if right is None and left is None:
        return None
    matrix = from_sketches(right, left, most).matrix
    return None if matrix is None else matrix.view(*shape)


def sketches(terms: Sequence[Term]) -> tuple[RightSketch | None, LeftSketch | None]:
    """The first sketch of each side."""
    right = next((term for term in terms if isinstance(term, RightSketch)), None)
    return right, next((term for term in terms if isinstance(term, LeftSketch)), None)


def as_sent(term: Term) -> bool:
    """Whether a term holds the gradient itself. A quantisation cell does not, nor does what changes it first."""
    return isinstance(term, Dense) and type(term).apply is Dense.apply and type(term).violation is Term.violation


def positions(term: Support) -> Tensor:
    """The positions at which a term holds entries, int64, each once."""
    return term.indices[0][term.weight[0] > 0].unique().cpu()
