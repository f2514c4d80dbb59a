"""The threshold that would have been best."""

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.roc import roc


def best(scores: Tensor, members: Tensor) -> float:
    """The threshold with the highest balanced accuracy on these scores; the highest of several as good.

    It lies halfway between the lowest score that is called a member and the next below, if there is one. Arguments and
    errors are those of `roc`.
    """
    curve = roc(scores, members)
    # In whole numbers, so that equals are equal: (TPR − FPR)·members·non-members.
    gain = curve.true * curve.nonmembers - curve.false * curve.members
    chosen = int(gain[1:].argmax()) + 1
    here = float(curve.thresholds[chosen])
    if chosen + 1 == len(curve.thresholds):
        return here
    below = float(curve.thresholds[chosen + 1])
    middle = below + (here - below) / 2
    return middle if below < middle <= here else here  # infinite and neighbouring scores have nothing between them


def best_by_class(scores: Tensor, members: Tensor, labels: Tensor) -> Tensor:
    """The `best` threshold of every class: float64, shape (largest label + 1,); NaN where a class has no candidate.

    Args:
        labels: int64, shape (n,).

    Raises:
        GradwireError: a class that has candidates and no member, or no non-member, among them.
    """
    found = torch.full((int(labels.max()) + 1,), torch.nan, dtype=torch.float64)
    for label in labels.unique().tolist():
        own = labels == label
        inside, total = int(members[own].sum()), int(own.sum())
        if inside in (0, total):
            what = "members" if inside == 0 else "non-members"
            raise GradwireError(f"class {label} has no {what} among its {total} candidates; its threshold needs both")
        found[label] = best(scores[own], members[own])
    return found
