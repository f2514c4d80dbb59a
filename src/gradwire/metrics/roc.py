"""The trade-off of members found and non-members suspected, as a threshold on scores falls.

Scores that are equal stand or fall together: a curve has one point for each distinct score and none between, so that
a score of two values has an area of its own, not one that depends on the order of the examples.
"""

from dataclasses import dataclass
from functools import cached_property
from math import floor

import torch
from torch import Tensor

from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Roc:
    """How many are called members at each threshold, which is to say have a score no lower.

    Attributes:
        thresholds: +∞, then the distinct scores from high to low, float64, shape (U + 1,).
        true: members called so, int64, shape (U + 1,): from 0 to all of them.
        false: non-members called so, int64, shape (U + 1,).
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
        """Pr[a member scores higher than a non-member] + ½·Pr[they score the same]: the area under the curve."""
        # Twice the count of pairs is a whole number: no rounding until the division.
        doubled = ((self.true[1:] + self.true[:-1]) * self.false.diff()).sum()
        return int(doubled) / (2 * self.members * self.nonmembers)

    def found_at(self, rate: float) -> int:
        """The most members that a threshold finds while it suspects at most this share of the non-members."""
        # A rate such as 0.01 is not exact: one in 100 of 300 must be three of them.
        allowed = floor(rate * self.nonmembers * (1 + 1e-12))
        return int(self.true[self.false <= allowed].max())

    def points(self, most: int = 500) -> Tensor:
        """Shares of non-members and of members, float64 (2, P), for drawing: corners only, at most so many.

        They lie close where few non-members are suspected, which is where curves are told apart.
        """
        rates = torch.stack([self.fpr, self.tpr])
        steps = rates.diff(dim=1)
        # A point in the middle of a straight line adds nothing.
        bent = (steps[0, 1:] * steps[1, :-1] != steps[0, :-1] * steps[1, 1:]).nonzero().squeeze(1) + 1
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
    check(scores, members)
    values, places = scores.double().unique(return_inverse=True)
    true = places[members].bincount(minlength=len(values)).flip(0).cumsum(0)
    false = places[~members].bincount(minlength=len(values)).flip(0).cumsum(0)
    zero = torch.zeros(1, dtype=torch.int64)
    thresholds = torch.cat([torch.tensor([torch.inf], dtype=torch.float64), values.flip(0)])
    return Roc(thresholds, torch.cat([zero, true]), torch.cat([zero, false]))


def check(scores: Tensor, members: Tensor) -> None:
    """Refuse scores and truth that no figure can be made of."""
    if scores.ndim != 1 or scores.shape != members.shape or members.dtype != torch.bool:
        raise GradwireError(
            f"scores and members have shapes {tuple(scores.shape)} and {tuple(members.shape)}, the latter "
            f"{members.dtype}; they must be (n,) and boolean (n,)"
        )
    if scores.isnan().any():
        raise GradwireError(f"{int(scores.isnan().sum())} of {len(scores)} scores are not a number")
    for side, name in ((members, "member"), (~members, "non-member")):
        if not side.any():
            raise GradwireError(f"there is no {name} among {len(members)} candidates; both sides are needed")
