"""All rows of a batch, from the space that a first linear layer's gradient spans.

A layer y = W·x + b has [∂W ∂b] = Σ δ·[x 1] over a batch of B rows, a matrix whose rows span the B vectors [x 1] where
the slopes δ are independent. What is known of this space is enough where x holds categories, each a one among zeros: a
vector of it is fixed by B of its coordinates, the last one is 1, and the others of these can only be 0 or 1. So there
are 2^(B − 1) vectors to try, and those that are a one among zeros in every category are rows of the table.

To look in a spanned space for its few members of a discrete kind is an idea of I. Petrov et al., "DAGER: Exact
gradient inversion for large language models", NeurIPS 2024, for tokens. This enumeration, for tables, is no paper's.
"""

import torch
from torch import Tensor

from gradwire.tasks import Columns

MOST = 14
"""The largest batch that is tried: 2¹³ vectors."""
FAINT = 1e-6
"""The share of the largest singular value below which a direction is rounding of float32."""
WHOLE = 0.02
"""How far a coordinate of a vector may be from that of a row."""


def rows_in_span(weight: Tensor, bias: Tensor, domain: Columns, batch: int) -> Tensor | None:
    """All rows of the table (R, F), R ≥ B, in the space of any combinations of [∂W ∂b]'s rows; the batch is among them.

    There may be others: with x₁, x₂ and x₃, x₁ + x₂ − x₃ may be a row as well.

    Returns:
        None where rows do not follow, as fewer directions than rows are known, or categories do not tell rows apart.

    Args:
        weight: ∂W, float64 (n, F), and `bias`, ∂b, (n,).
    """
    groups = list(domain.groups())
    if batch > MOST or not groups or len(weight) < batch:
        return None
    _, sizes, spanned = torch.linalg.svd(torch.cat([weight, bias[:, None]], 1), full_matrices=False)
    if sizes[batch - 1] <= FAINT * sizes[0] or (len(sizes) > batch and sizes[batch] > 0.1 * sizes[batch - 1]):
        return None
    space = spanned[:batch]
    discrete = torch.cat([space[:, -1:], space[:, groups[0].start : groups[-1].stop]], 1)
    pivots = _pivots(discrete)
    if pivots is None:
        return None
    # The last coordinate is 1; of the others, each is 0 or 1 in every combination.
    tried = (2 * torch.arange(2 ** (batch - 1))[:, None] + 1) >> torch.arange(batch) & 1
    vectors = torch.linalg.solve(discrete[:, pivots], tried.to(space), left=False) @ space
    rows, last = vectors[:, :-1], vectors[:, -1]
    off = torch.maximum((rows - domain.snapped(rows)).abs().amax(1), (last - 1).abs())
    found = rows[off <= WHOLE]
    return found if len(found) >= batch else None


def _pivots(columns: Tensor) -> list[int] | None:
    """B independent ones of columns (B, K), the first among them; None where there are not as many."""
    rest, chosen = columns.clone(), [0]
    while True:
        direction = rest[:, chosen[-1]] / rest[:, chosen[-1]].norm()
        rest = rest - torch.outer(direction, direction @ rest)
        if len(chosen) == len(columns):
            return chosen
        sizes = rest.norm(dim=0)
        chosen.append(int(sizes.argmax()))
        if sizes[chosen[-1]] <= FAINT * columns.norm(dim=0).max():
            return None
