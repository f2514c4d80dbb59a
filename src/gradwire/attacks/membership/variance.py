"""Variances of many small samples: one each, one for all, or each shrunk towards a common one."""

from typing import Literal

import torch
from torch import Tensor

Variance = Literal["per-example", "global", "shrunk"]
FLOOR = 1e-12
"""Lower variances come from rounding."""


def moments(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, unbiased variance and number of the chosen models' values.

    Args:
        values: shape (S, n, A), and chosen: bool, shape (S, n).

    Returns:
        mean and variance, shape (n, A), the latter 0 for fewer than two values; number, shape (n, 1).
    """
    weight = chosen.to(values.dtype)[..., None]
    count = weight.sum(0)
    mean = (weight * values).sum(0) / count.clamp_min(1)
    square = (weight * (values - mean).square()).sum(0)
    return mean, square / (count - 1).clamp_min(1), count


def settle(variance: Tensor, count: Tensor, kind: Variance) -> Tensor:
    """The variances that an attack uses, shape (n, A), at least `FLOOR`.

    "per-example" leaves those of `moments`; "global" pools them, weighted by degrees of freedom, into one for each
    augmentation; "shrunk": see `shrink`.
    """
    freedom = (count - 1).clamp_min(0)
    if kind == "global":
        pooled = (freedom * variance).sum(0, keepdim=True) / freedom.sum(0, keepdim=True).clamp_min(1)
        variance = pooled.expand_as(variance)
    if kind == "shrunk":
        variance = shrink(variance, freedom)
    return variance.clamp_min(FLOOR)


def shrink(variance: Tensor, freedom: Tensor) -> Tensor:
    """Moderated variances, (d₀·s₀² + d·s²) / (d₀ + d): the posterior under a prior that is fitted to all of them.

    The prior is a scaled inverse χ² of d₀ degrees of freedom around s₀²; both are fitted to the mean and the variance
    of log s² (G. K. Smyth, "Linear models and empirical Bayes methods", SAGMB 3(1), 2004, eq. 3 and §6.2). Where the
    s² differ by no more than chance makes them differ, d₀ is infinite and all become s₀².

    Args:
        variance: s², shape (n, A), and freedom: d, shape (n, 1); examples with d = 0 do not count for the prior.
    """
    known = (freedom > 0).squeeze(1)
    if known.sum() < 2:
        return variance
    s, d = variance[known].clamp_min(FLOOR), freedom[known]
    centred = s.log() - torch.digamma(d / 2) + (d / 2).log()
    mean = centred.mean(0)
    excess = centred.var(0) - torch.polygamma(1, d / 2).mean(0)
    prior = torch.where(excess > 0, 2 * _trigamma_inverse(excess.clamp_min(1e-12)), torch.inf)
    # As d₀ → ∞, ψ(d₀/2) − log(d₀/2) → 0.
    half = torch.where(prior.isinf(), 1.0, prior / 2)
    offset = torch.where(prior.isinf(), 0.0, torch.digamma(half) - half.log())
    location = (mean + offset).exp()
    share = torch.where(prior.isinf(), 1.0, prior / (prior + freedom))
    return share * location + (1 - share) * variance


def _trigamma_inverse(value: Tensor) -> Tensor:
    """x with ψ′(x) = value, by Newton's method on 1/ψ′, which is convex and nearly linear (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        slope = torch.polygamma(1, x)
        step = slope * (1 - slope / value) / torch.polygamma(2, x)
        x = x + step
        if (step.abs() <= 1e-10 * x).all():
            break
    return x
