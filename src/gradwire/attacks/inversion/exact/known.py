"""What is determined of one parameter's gradient, by the terms of its measurement alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.exact.matrices import as_sent, from_sketches, positions, rank, sketches
from gradwire.schemes.codec.layers import Tangent
from gradwire.schemes.measurement import Cells, Signs, Support, Term

Kind = Literal["all", "entries", "sketch", "signs", "cells", "constraints", "code", "numbers", "nothing"]
"""How a parameter's gradient is known: all of it; some entries; a part of its rank; the sign of each entry; the cell of
each; otherwise constrained; by a latent code; by other linear functions of it; not at all."""
WIDE = 64
"""The rank of a matrix that was sent whole is told where it can have at most so many directions."""


@dataclass(frozen=True)
class KnownParameter:
    """What is determined of one parameter's gradient.

    Attributes:
        size: its entries.
        numbers: how many numbers were sent of it.
        entries: how many of its entries follow exactly, but for what the certificate says of all of them.
        rank: of what was sent, as a matrix; None where it was not looked at.
        most: the rank that the gradient can have, as the layer received so many vectors; None where nothing bounds it.
    """

    kind: Kind
    size: int
    numbers: int
    entries: int
    rank: int | None = None
    most: int | None = None


PHRASES: Mapping[Kind, str] = {
    "all": "all {size} entries of {count}{through}",
    "entries": "{entries} of {size} entries of {count}",
    "sketch": "of {count} only a part of rank {rank}, where a rank of {most} is possible",
    "signs": "the signs, and no magnitude, of {size} entries of {count}",
    "cells": "for {size} entries of {count} the cell to which each was rounded",
    "constraints": "constraints on {size} entries of {count}",
    "code": "a latent code of {numbers} numbers for {size} entries of {count}",
    "numbers": "{numbers} numbers that are linear in {size} entries of {count}",
    "nothing": "nothing of {size} entries of {count}",
}


def known(terms: Sequence[Term], shape: tuple[int, ...], vectors: int | None = None) -> KnownParameter:
    """What terms determine of a parameter.

    Args:
        vectors: how many the layer received whose weight it is; None where nobody knows.
    """
    size, sides = prod(shape), (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    bound = None if vectors is None or vectors >= min(sides) else vectors
    numbers = sum(int(term.counts()) for term in terms)
    sent = next((term for term in terms if as_sent(term)), None)
    if sent is not None:
        narrow = bound is not None and bound <= WIDE
        seen = _rank(sent.observed[0].reshape(sides), bound) if narrow and bound is not None else None
        return KnownParameter("all", size, numbers, size, seen, bound)
    supports = [positions(term) for term in terms if isinstance(term, Support)]
    if supports:
        entries = len(torch.cat(supports).unique())
        return KnownParameter("all" if entries == size else "entries", size, numbers, entries)
    right, left = sketches(terms)
    if right is not None or left is not None:
        found = from_sketches(right, left, bound)
        if found.matrix is not None:
            return KnownParameter("all", size, numbers, size, found.rank, bound)
        return KnownParameter("sketch", size, numbers, 0, found.rank, bound or min(sides))
    kinds: list[tuple[type[Term], Kind]] = [(Signs, "signs"), (Cells, "cells"), (Tangent, "code")]
    for kind, word in kinds:
        if any(isinstance(term, kind) for term in terms):
            return KnownParameter(word, size, numbers, 0)
    if not terms:
        return KnownParameter("nothing", size, 0, 0)
    constrained = all(type(term).violation is not Term.violation for term in terms)
    return KnownParameter("constraints" if constrained else "numbers", size, numbers, 0)


def _rank(matrix: Tensor, most: int) -> int:
    """The rank of a matrix (n, m) that can have at most `most`, from as many random combinations of its columns."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(matrix.shape[1], most + 1, generator=random, dtype=torch.float64).to(matrix.device)
    return rank((matrix.double() @ drawn).to(matrix.dtype))


def phrase(kind: Kind, those: Sequence[KnownParameter]) -> str:
    """The words for the parameters of one kind; none where there are none."""
    if not those:
        return ""
    sketched = [each for each in those if each.rank is not None and each.numbers < each.size]
    through = ""
    if kind == "all" and sketched:
        ranks = sorted({each.rank or 0 for each in sketched})
        through = f" ({len(sketched)} of them through sketches whose rank, {_range(ranks)}, is all of the gradient's)"
    return PHRASES[kind].format(
        size=f"{sum(each.size for each in those):,}",
        entries=f"{sum(each.entries for each in those):,}",
        numbers=f"{sum(each.numbers for each in those):,}",
        count="1 parameter" if len(those) == 1 else f"{len(those)} parameters",
        rank=_range(sorted({each.rank or 0 for each in those})),
        most=_range(sorted({each.most or 0 for each in those})),
        through=through,
    )


def _range(values: Sequence[int]) -> str:
    """Ascending whole numbers in words."""
    return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
