"""How well scores tell members from non-members, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.epsilon import epsilon_bound
from gradwire.metrics.intervals import Figure, auc, mean_of_rates, rate
from gradwire.metrics.roc import Roc, roc

RATES = (1e-2, 1e-3)
"""The false-positive rates at which TPR is reported."""


@dataclass(frozen=True)
class Membership:
    """One attack's figures on one set of candidates.

    Attributes:
        balanced_accuracy: (TPR + TNR) / 2 at the threshold.
        auc: area under the curve; a tie counts half.
        tpr_at: false-positive rate → TPR. Its interval does not cover how far other non-members move the threshold.
        tpr, fpr: at the threshold.
        epsilon: `epsilon_bound` at the threshold; None where that was chosen on these very candidates.
        members, nonmembers: how many candidates there are of each.
        curve: the whole trade-off.
    """

    balanced_accuracy: Figure
    auc: Figure
    tpr_at: Mapping[float, Figure]
    tpr: Figure
    fpr: Figure
    epsilon: float | None
    members: int
    nonmembers: int
    curve: Roc


def membership(
    scores: Tensor,
    members: Tensor,
    threshold: float | Tensor,
    fixed: bool,
    relative: bool = False,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Membership:
    """All figures of an attack's scores.

    Args:
        scores, members: as of `roc`.
        threshold: a candidate is called a member if it scores no lower. One for all, or one each, shape (n,).
        fixed: whether the threshold was chosen before these candidates' scores were seen.
        relative: whether the curve is that of scores minus their thresholds, as for thresholds by class.
        confidence: of all intervals and of the bound on ε.
        resamples: of the bootstrap.

    Raises:
        GradwireError: as `roc`, or a threshold that is not a number.
    """
    limits = torch.as_tensor(threshold, dtype=torch.float64).expand(scores.shape)
    if limits.isnan().any():
        raise GradwireError(f"{int(limits.isnan().sum())} of {len(limits)} candidates have no threshold")
    scores = scores.double()
    called = scores >= limits
    curve = roc(scores - limits if relative else scores, members)
    inside, outside = curve.members, curve.nonmembers
    true, false = int((called & members).sum()), int((called & ~members).sum())
    tpr, tnr = rate(true, inside, confidence), rate(outside - false, outside, confidence)
    return Membership(
        balanced_accuracy=mean_of_rates(tpr, tnr),
        auc=auc(curve, confidence, resamples, seed),
        tpr_at={allowed: rate(curve.found_at(allowed), inside, confidence) for allowed in RATES},
        tpr=tpr,
        fpr=rate(false, outside, confidence),
        epsilon=float(epsilon_bound(true, inside, false, outside, confidence)) if fixed else None,
        members=inside,
        nonmembers=outside,
        curve=curve,
    )
