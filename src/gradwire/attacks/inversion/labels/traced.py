"""Slopes sent back from a network's logits, and what is asked of the gradients that they leave: see `head`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

AGREE = 1e-3
"""Relative error, in float32, up to which a gradient counts as that of a head."""
LEAST = 1e-3
"""A class whose scale is below this share of the largest counts as one that the parameter does not reach."""


@dataclass(frozen=True)
class Traced:
    """Slopes that were sent back from the logits of one batch, and the gradients that they left.

    Attributes:
        spread: name → pairs of ΣV (classes,) and the gradient, V drawn anew for every example.
        equal: name → pairs of v (classes,) and the gradient, v being every example's slope.
    """

    logits: Tensor
    spread: dict[str, list[tuple[Tensor, Tensor]]]
    equal: dict[str, list[tuple[Tensor, Tensor]]]

    @classmethod
    def of(cls, logits: Tensor, candidates: Mapping[str, Tensor], centred: bool, random: torch.Generator) -> "Traced":
        """Send two slopes of each kind back. Those of cross-entropy add up to nothing over classes: `centred`."""

        def drawn(*size: int) -> Tensor:
            slopes = torch.randn(*size, logits.shape[1], generator=random)
            return slopes - slopes.mean(-1, keepdim=True) if centred else slopes

        found = cls(logits.detach().double(), {n: [] for n in candidates}, {n: [] for n in candidates})
        for kind, size in ((found.spread, len(logits)), (found.equal, 1)) * 2:
            slopes = drawn(size)
            shown = slopes.sum(0) if kind is found.spread else slopes[0]
            back = slopes.to(logits).expand_as(logits)
            gradients = (
                torch.autograd.grad(logits, list(candidates.values()), back, retain_graph=True, allow_unused=True)
                if candidates and logits.requires_grad
                else [None] * len(candidates)
            )
            for (name, parameter), gradient in zip(candidates.items(), gradients, strict=True):
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                kind[name].append((shown.double(), gradient.double()))
        return found


def scale_of(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> Tensor | None:
    """s with gradient = s·ΣV, (classes,), from the first batch; None where it does not hold of the second."""
    if any(gradient.numel() != len(slopes) for slopes, gradient in first):
        return None
    (sums, gradients), others = (
        (torch.stack([a for a, _ in pairs]), torch.stack([b.flatten() for _, b in pairs])) for pairs in (first, second)
    )
    scale = (sums * gradients).sum(0) / sums.square().sum(0)
    reaches = float(scale.abs().min()) > LEAST * float(scale.abs().max()) > 0
    holds = (_near(scale * a, b) for a, b in ((sums, gradients), others))
    return scale if reaches and all(holds) else None


def features_of(traced: Traced, name: str, transposed: bool) -> Tensor | None:
    """s·Σh over a batch with gradient = v·s·Σhᵀ for every v, (features,); None where there is no such vector."""
    pairs = [(v, (g.mT if transposed else g.flatten(1))) for v, g in traced.equal[name]]
    summed = torch.stack([v @ g for v, g in pairs]).sum(0) / torch.stack([v.square().sum() for v, _ in pairs]).sum()
    holds = all(_near(torch.outer(v, summed), g) for v, g in pairs)
    return summed if summed.any() and holds else None


def _near(found: Tensor, due: Tensor) -> bool:
    return float((found - due).norm()) <= AGREE * float(due.norm())
