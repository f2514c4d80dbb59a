"""Directions q in which L·q has many zeros, for a matrix L (n, k) of which only the columns' span matters.

By sampling, as SPEAR (Dimitrov et al., NeurIPS 2024) does: k − 1 rows of L that vanish together leave one q.
By the ℓ₁ norm, as SPEAR++ (Bakarsky et al., 2025) does: on the sphere ‖L·q‖₁ has local minima where L·q is sparse. They
are reached by Riemannian gradient descent (Y. Bai, Q. Jiang, J. Sun, "Subgradient descent learns orthogonal
dictionaries", ICLR 2019), here on a smooth ℓ₁ norm that becomes sharper.

Beyond the papers: two images of one class have slopes that are nearly proportional where both are active, and their
difference is about as sparse as they are. `deflated` looks where one of the two vanishes, so that it cannot hide the
other.
"""

import torch
from torch import Tensor

ZERO = 1e-3
"""Entries of L·q below this share of the largest are zeros."""
NEAR = (2e-2, 4e-3, 8e-4, 1.6e-4)
"""Shares of the largest entry below which others are taken for zeros, each time that a direction is made more exact."""
SAMPLES = 2048
STARTS = 8
"""Random starts for each direction that is sought."""
SHARPNESS = (0.5, 0.15, 0.05, 0.015)
"""Widths of the smooth ℓ₁ norm's kink, in units of the mean size of an entry of L·q, 1/√n."""
STEPS, STEP, DECAY = 100, 0.1, 0.97
"""Steps for each width, the first one's size, and by what the next is shorter."""


def sampled(left: Tensor, random: torch.Generator) -> Tensor:
    """Null vectors of random sets of k − 1 rows, those with more zeros than any null vector has; (C, k)."""
    n, k = left.shape
    if k == 1:
        return left.new_ones(1, 1)
    sets = torch.rand(SAMPLES, n, generator=random).topk(k - 1, dim=1).indices
    return made_exact(torch.linalg.qr(left[sets].mT, mode="complete")[0][..., -1], left)


def learned(left: Tensor, random: torch.Generator) -> Tensor:
    """Local minima of ‖L·q‖₁ from random starts, those with more zeros than any null vector has; (C, k)."""
    n, k = left.shape
    # Orthonormal columns make the directions that are sought nearly orthogonal.
    basis, change = torch.linalg.qr(left)
    q = _unit(torch.randn(STARTS * k, k, generator=random, dtype=left.dtype))
    for width in SHARPNESS:
        for step in range(STEPS):
            # The slope of Σ w·log cosh(z/w) is tanh(z/w).
            slope = torch.tanh((q @ basis.mT) * (n**0.5 / width)) @ basis
            q = _unit(q - STEP * DECAY**step * (slope - (slope * q).sum(1, keepdim=True) * q))
    return made_exact(torch.linalg.solve_triangular(change, q.mT, upper=True).mT, left)


def deflated(left: Tensor, known: Tensor, random: torch.Generator) -> Tensor:
    """Directions that are learned on the rows in which L·p is zero, p being a direction that is `known` (k,); (C, k).

    There q and q + c·p are alike; in the other rows c is the number that makes the most entries vanish.
    """
    slopes = left @ known
    active = slopes.abs() > ZERO * slopes.abs().max()
    others = torch.linalg.qr(known[:, None], mode="complete")[0][:, 1:]
    part = left[~active] @ others
    if len(part) < 2 * part.shape[1]:
        return left.new_empty(0, len(known))
    q = learned(part, random) @ others.mT
    ratios = -(q @ left[active].mT) / slopes[active]
    close = ZERO * ratios.abs().median(1).values[:, None, None]
    votes = ((ratios[:, :, None] - ratios[:, None, :]).abs() <= close).sum(2)
    return made_exact(q + ratios.gather(1, votes.argmax(1, keepdim=True)) * known, left)


def made_exact(directions: Tensor, left: Tensor) -> Tensor:
    """Of directions (C, k) those with many more zeros than k, each made the one of least ‖L·q‖ on its zeros."""
    for near in NEAR:
        slopes = (directions @ left.mT).abs()
        zeros = slopes <= near * slopes.amax(1, keepdim=True)
        enough = zeros.sum(1) > 1.5 * left.shape[1] + 1
        directions, zeros = directions[enough], zeros[enough]
        gram = torch.einsum("cn,ni,nj->cij", zeros.to(left), left, left)
        directions = torch.linalg.eigh(gram)[1][..., 0]
    return directions


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (C, k) of length 1."""
    return vectors / vectors.norm(dim=1, keepdim=True)
