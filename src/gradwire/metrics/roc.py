"""The ROC curve of a membership attack: one point for each distinct score, whatever the order of the examples."""

from dataclasses import dataclass
from functools import cached_property
from math import floor

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Roc:
    """How many are called members at each threshold, having a score no lower than it.

    Attributes:
        thresholds: +∞, then the distinct scores from high to low, float64, shape (U + 1,).
        true, false: members and non-members called members, int64, shape (U + 1,): from 0 to all of them.
    """

    thresholds: Tensor
    true: Tensor
    false: Tensor

    @property
    def members(self) -> int:
        """How many members there are."""
        return int(self.true[-1])

    @property
    def nonmembers(self) -> int:
        """How many non-members there are."""
        return int(self.false[-1])

    @property
    def tpr(self) -> Tensor:
        """Share of members called so, float64, shape (U + 1,)."""
        return self.true.double() / self.members

    @property
    def fpr(self) -> Tensor:
        """Share of non-members called so, float64, shape (U + 1,)."""
        return self.false.double() / self.nonmembers

    @cached_property
    def auc(self) -> float:
        """The area under the curve: Pr[a member scores higher than a non-member] + ½·Pr[they score the same]."""
        # Twice the count of pairs is a whole number: no rounding until the division.
        doubled = ((self.true[1:] + self.true[:-1]) * self.false.diff()).sum()
        return int(doubled) / (2 * self.members * self.nonmembers)

    def found_at(self, rate: float) -> int:
        """The most members found by a threshold whose false-positive rate is at most `rate`."""
        # A rate such as 0.01 is not exact: one in 100 of 300 must be three of them.
        allowed = floor(rate * self.nonmembers * (1 + 1e-12))
        return int(self.true[self.false <= allowed].max())

    def points(self, most: int = 500) -> Tensor:
        """The corners of the steps, FPR and TPR, float64, (2, P), P ≤ `most`, densest at a low FPR.

        Up to the next corner's FPR, as many members are found as at the last: no threshold divides a tie.
        """
        rates = torch.stack([self.fpr, self.tpr])
        steps = rates.diff(dim=1)
        bent = ((steps[:, 1:] > 0) | (steps[:, :-1] > 0)).all(0).nonzero().squeeze(1) + 1
        kept = torch.cat([torch.tensor([0]), bent, torch.tensor([rates.shape[1] - 1])])
        if len(kept) > most:
            places = torch.logspace(0, torch.tensor(len(kept)).log10().item(), most, dtype=torch.float64) - 1
            kept = kept[places.round().long().clamp(0, len(kept) - 1).unique()]
        return rates[:, kept]


def roc(scores: Tensor, members: Tensor) -> Roc:
    """The curve of n candidates.

    Args:
        scores: the higher, the likelier a member; shape (n,). Infinite ones are allowed.
        members: bool, shape (n,): the truth.

    Raises:
        GradwireError: shapes that do not fit, a score that is not a number, no members, or no non-members.
    """
    if scores.ndim != 1 or scores.shape != members.shape or members.dtype != torch.bool:
        found = f"{tuple(scores.shape)} and {tuple(members.shape)}, the latter {members.dtype}"
        raise GradwireError(f"scores and members have shapes {found}; they must be (n,) and boolean (n,)")
    if scores.isnan().any():
        raise GradwireError(f"{int(scores.isnan().sum())} of {len(scores)} scores are not a number")
    for side, name in ((members, "member"), (~members, "non-member")):
        if not side.any():
            raise GradwireError(f"there is no {name} among {len(members)} candidates; both sides are needed")
    values, places = scores.double().unique(return_inverse=True)
    true, false = (places[side].bincount(minlength=len(values)).flip(0).cumsum(0) for side in (members, ~members))
    return Roc(pad(values.flip(0), (1, 0), value=torch.inf), pad(true, (1, 0)), pad(false, (1, 0)))
