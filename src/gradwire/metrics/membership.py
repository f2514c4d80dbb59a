"""How well scores tell members from non-members, with intervals that hold for other examples and other models."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradwire.metrics.clusters import variance
from gradwire.metrics.intervals import Figure, share
from gradwire.metrics.low_rate import LowRate, low_rate
from gradwire.metrics.scored import Scored

RATES = (1e-2, 1e-3)
"""The false-positive rates at which TPR is reported."""


@dataclass(frozen=True)
class Membership:
    """One attack's figures.

    Attributes:
        balanced_accuracy: (TPR + TNR) / 2 at the thresholds.
        auc: area under the curve of all pairs; a tie counts half.
        tpr_at: false-positive rate → TPR, or why it cannot be told.
        members, nonmembers: how many judged pairs there are of each.
    """

    balanced_accuracy: Figure
    auc: Figure
    tpr_at: Mapping[float, LowRate]
    members: int
    nonmembers: int


def membership(scored: Scored, confidence: float = 0.95) -> Membership:
    """All figures of an attack's scores.

    Intervals of the balanced accuracy and the area are score intervals with the variance of clusters both of examples
    and of models, or of examples alone where there are fewer than `clusters.FEW` models.
    """
    curve = scored.curve
    return Membership(
        _mean(scored, *_decisions(scored), confidence),
        _mean(scored, *_placements(scored), confidence),
        {rate: low_rate(scored, rate, confidence) for rate in RATES},
        curve.members,
        curve.nonmembers,
    )


def _mean(scored: Scored, value: float, influence: np.ndarray, confidence: float) -> Figure:
    examples = int(scored.asked.any(0).sum())
    return share(value, variance(influence, scored.models.numpy()), examples, confidence)


def _decisions(scored: Scored) -> tuple[float, np.ndarray]:
    """The balanced accuracy, and each pair's influence on it."""
    asked, members, called = (mask.numpy() for mask in (scored.asked, scored.members, scored.called))
    right, influence, value = called == members, np.zeros(members.shape), 0.0
    for side in (asked & members, asked & ~members):
        rate = float(right[side].mean())
        influence[side] = (right[side] - rate) / (2 * side.sum())
        value += rate / 2
    return value, influence


def _placements(scored: Scored) -> tuple[float, np.ndarray]:
    """The area under the curve, and each pair's influence: how its score lies among those of the other side.

    E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves: a nonparametric approach", Biometrics 44(3), 1988.
    """
    scores, asked, members = (tensor.numpy() for tensor in (scored.scores, scored.asked, scored.members))
    area, influence = scored.curve.auc, np.zeros(members.shape)
    for side, other, towards in ((asked & members, asked & ~members, 1), (asked & ~members, asked & members, -1)):
        ordered = np.sort(scores[other])
        below = np.searchsorted(ordered, scores[side], "left") + np.searchsorted(ordered, scores[side], "right")
        placed = below / (2 * len(ordered))
        influence[side] = ((placed if towards > 0 else 1 - placed) - area) / side.sum()
    return area, influence
