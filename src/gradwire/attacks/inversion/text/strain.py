"""How far a candidate's gradient is from what was sent: term by term and row by row, each relative to its size.

One distance or cosine over a whole gradient is ruled by its few largest rows and cannot tell two orders of the same
tokens apart. Here every row of an embedding counts alike, and so does every term: the value is zero if the candidate
would have been sent as this. Quantised entries are compared with the levels that were sent, of which the truth is the
nearest on average; their cells alone would leave most orders possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Cells, Dense, LeftSketch, RightSketch, Signs, Support, Term

TINY = 1e-30


@dataclass(frozen=True)
class Strain:
    """One victim's terms about some rows of a matrix's gradient.

    Attributes:
        terms: about those rows alone.
        rows: how many there are, and `width`, the matrix's columns.
    """

    terms: tuple[Term, ...]
    rows: int
    width: int

    @classmethod
    def of(cls, terms: Sequence[Term], kept: Tensor, shape: tuple[int, int], elsewhere: bool) -> "Strain":
        """Cut terms about a matrix of a shape (n, m) down to the rows `kept`, int64 (R,).

        Args:
            elsewhere: whether candidates have a gradient in other rows, too; terms that mix rows are then left out.
        """
        cut = [_cut(term, kept, shape) for term in terms if not (elsewhere and isinstance(term, LeftSketch))]
        return cls(tuple(term for term in cut if term is not None), len(kept), shape[1])

    def by_row(self, gradient: Tensor) -> Tensor:
        """The relative difference in each row of candidates' gradients (C, R, m), a mean over terms: (C, R)."""
        told = [_rows(term, gradient) for term in self.terms if not isinstance(term, LeftSketch)]
        return torch.stack(told).mean(0) if told else gradient.new_zeros(gradient.shape[:2])

    def mixed(self, gradient: Tensor) -> Tensor:
        """The relative difference in the terms that mix rows, of candidates' gradients (C, R, m): (C,)."""
        value = gradient.new_zeros(len(gradient))
        for term in self.terms:
            if isinstance(term, LeftSketch):
                measured = term.apply(Full(gradient)).flatten(1)
                off = measured - term.observed.flatten(1)
                value = value + _relative(off.norm(dim=1), measured.norm(dim=1), term.observed.norm())
        return value


def _cut(term: Term, kept: Tensor, shape: tuple[int, int]) -> Term | None:
    """A term about some rows; None where it says nothing of them."""
    term = term.to(kept.device, torch.float32)
    if isinstance(term, RightSketch):
        return replace(term, observed=term.observed[:, kept])
    if isinstance(term, LeftSketch):
        return replace(term, left=term.left[:, kept])
    if isinstance(term, Cells):
        return replace(term, observed=term.observed[:, kept], width=term.width[:, kept])
    if isinstance(term, Dense | Signs):
        return replace(term, observed=term.observed[:, kept])
    if isinstance(term, Support):
        place = torch.full((shape[0],), -1, device=kept.device).index_copy_(0, kept, torch.arange(len(kept)).to(kept))
        row = place[term.indices[0] // shape[1]]
        here = (row >= 0) & (term.weight[0] > 0)
        return Support.at((row * shape[1] + term.indices[0] % shape[1])[here], term.observed[0][here])
    return None


def _rows(term: Term, gradient: Tensor) -> Tensor:
    """A term's relative difference row by row, (C, R), each at most 1."""
    if isinstance(term, Support):
        width, rows = gradient.shape[2], gradient.shape[1]
        row, measured = term.indices[0] // width, gradient.flatten(1)[:, term.indices[0]]

        def norms(values: Tensor) -> Tensor:
            return values.new_zeros(len(values), rows).index_add_(1, row, values.square()).sqrt()

        return _relative(norms(measured - term.observed), norms(measured), norms(term.observed))
    if isinstance(term, Signs):
        # The share of a row's size whose sign is wrong; its root, for few orders are far from what was sent.
        wrong = (-gradient * term.observed.sign()).clamp_min(0).sum(2)
        return (wrong / gradient.abs().sum(2).clamp_min(TINY)).sqrt()
    measured = gradient @ term.right if isinstance(term, RightSketch) else gradient
    return _relative((measured - term.observed).norm(dim=2), measured.norm(dim=2), term.observed.norm(dim=2))


def _relative(off: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """‖a − b‖ / (‖a‖ + ‖b‖), in [0, 1]: a row that is small by chance counts no more than others when it is missed."""
    return off / (one + other).clamp_min(TINY)
