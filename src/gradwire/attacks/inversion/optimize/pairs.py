"""The memory of L-BFGS and what its recursion makes of it, by products of small matrices.

- J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed., 2006, algorithm 7.4: the two-loop recursion.
- W. Chen, Z. Wang, J. Zhou, "Large-scale L-BFGS using MapReduce", NeurIPS 2014: the recursion works on the inner
  products of its vectors alone, and the result is a sum of these vectors.

The memory holds h pairs (s, y) a row. A step reads it twice, however many pairs there are: once for the products of all
of them with the newest y and the slope g, once for the sum. In the recursion's first loop, from the newest pair to the
oldest,

    αᵢ = (sᵢ·g − Σ_{j > i} αⱼ·sᵢ·yⱼ) / sᵢ·yᵢ,

which is the triangular system R·α = Sᵀg with Rᵢⱼ = sᵢ·yⱼ, i ≤ j. Its second loop, with δ = α − β, is

    Rᵀ·δ = diag(R)∘α − γ·(Yᵀg − YᵀY·α),      H·g = γ·(g − Y·α) + S·δ,      γ = sᵀy/yᵀy of the newest pair.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

Memory = dict[str, Tensor]
"""What is kept of R rows, by name:

- `pairs` (R, h + 1, 2, N): s and y, in a ring of its own for each row; one place is free for the next pair.
- `newest` (R,): the place of the newest pair; `held` (R,): how many pairs there are.
- `products` (R, 2, h, h): sᵢ·yⱼ for i ≤ j, and yᵢ·yⱼ, from the oldest pair to the newest, which is last. They are in
  float64, in which systems of nearly parallel vectors are solved. Between a pair that is held and one that is not they
  are zero, so that what was forgotten takes no part.
"""


def empty(start: Tensor, history: int) -> Memory:
    """No pairs, of at most `history`, for points like `start` (R, N)."""
    rows, size = start.shape
    return {
        "pairs": start.new_zeros(rows, history + 1, 2, size),
        "newest": torch.zeros(rows, dtype=torch.int64, device=start.device),
        "held": torch.zeros(rows, dtype=torch.int64, device=start.device),
        "products": torch.zeros(rows, 2, history, history, dtype=torch.float64, device=start.device),
    }


def forget(memory: Memory, lost: Tensor) -> None:
    """Empty the memory of some rows, bool (R,)."""
    memory["held"] = memory["held"].masked_fill(lost, 0)


def recursion(memory: Memory, moved: Tensor, step: Tensor, change: Tensor, slopes: Tensor) -> Tensor:
    """H·g of vectors g (R, N), after the pairs (s, y) = (`step`, `change`) of the rows that moved are remembered.

    Pairs without positive curvature are not remembered.

    Args:
        moved: bool (R,); what the others' step and change are does not matter.
        slopes: g.
    """
    pairs, (rows, places) = memory["pairs"], memory["pairs"].shape[:2]
    row, free = torch.arange(rows, device=pairs.device), (memory["newest"] + 1) % places
    pair = torch.stack([step, change], 1).masked_fill(~moved[:, None, None], 0)
    pairs[row, free] = pair
    vectors = pairs.flatten(1, 2)
    found = (torch.stack([pair[:, 1], slopes], 1) @ vectors.mT).double().view(rows, 2, places, 2)
    curvature, squared = found[row, 0, free].unbind(1)
    enough = moved & (curvature > 1e-10 * step.norm(dim=1) * squared.sqrt())
    memory["newest"] = torch.where(enough, free, memory["newest"])
    memory["held"] = (memory["held"] + enough).clamp_max(places - 1)

    # From here on pairs are in the order of their age.
    age = torch.arange(places - 1, device=pairs.device)
    order = ((memory["newest"][:, None] + 2 + age) % places)[:, :, None].expand(-1, -1, 2)
    missing = age < places - 1 - memory["held"][:, None]
    found = found.gather(2, order[:, None].expand(-1, 2, -1, -1)).masked_fill(missing[:, None, :, None], 0)
    of_change, (s_g, y_g) = found[:, 0].mT, found[:, 1].unbind(2)
    joined = _joined(memory["products"], of_change)
    memory["products"] = torch.where(enough[:, None, None, None], joined, memory["products"])

    weights, scale = _solved(memory["products"], s_g, y_g, missing)
    spread = weights.new_zeros(rows, places, 2).scatter(1, order, weights).flatten(1).to(slopes.dtype)
    return torch.baddbmm(scale.to(slopes.dtype)[:, None, None] * slopes[:, None], spread[:, None], vectors)[:, 0]


def _joined(products: Tensor, of_newest: Tensor) -> Tensor:
    """Products (R, 2, h, h) without the oldest pair and with a newest one, whose s·y and y·y are (R, 2, h)."""
    joined = pad(products[:, :, 1:, 1:], (0, 1, 0, 1))
    joined[..., -1] = of_newest
    joined[:, 1, -1] = of_newest[:, 1]
    return joined


def _solved(products: Tensor, s_g: Tensor, y_g: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of each pair's s and y in H·g, (R, h, 2), and γ, (R,): one where there is no pair."""
    s_y, y_y = products.unbind(1)
    curvature, squared = s_y.diagonal(dim1=1, dim2=2), y_y[:, -1, -1]
    triangle = s_y + torch.diag_embed(missing.to(s_y.dtype))
    alpha = torch.linalg.solve_triangular(triangle, s_g[:, :, None], upper=True)
    scale = torch.where(missing[:, -1], 1.0, curvature[:, -1] / squared.clamp_min(1e-30))
    rest = curvature[:, :, None] * alpha - scale[:, None, None] * (y_g[:, :, None] - y_y @ alpha)
    delta = torch.linalg.solve_triangular(triangle.mT, rest, upper=False)
    return torch.cat([delta, -scale[:, None, None] * alpha], 2), scale
