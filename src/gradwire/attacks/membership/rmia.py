"""The robust membership inference attack.

S. Zarifzadeh, P. Liu, R. Shokri, "Low-cost high-power membership inference attacks", ICML 2024, eq. 3 to 5.
"""

from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class RMIA(MembershipAttack):
    """Pr_z[ (p(x|θ)/p(x)) / (p(z|θ)/p(z)) ≥ γ ]: the share of other examples z that θ raises less than the candidate x.

    p(·|θ) is the probability of the label; p(x) is its mean over shadow models, those with x and those without in equal
    parts; z runs over a population that no model was trained on. The score is the log-odds of the mean share over
    augmentations, with half an example added to both sides to keep them finite.
    """

    name: ClassVar[str] = "rmia"
    sorts: ClassVar[int] = 2

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise GradwireError(f"{self.name}: gamma is {self.gamma}; it must be above 0")

    def prior(self, answers: Tensor, members: Tensor | None) -> Tensor:
        """log p(x), shape (n, A).

        Args:
            answers: log p(x|θ′) of shadows θ′, shape (S, n, A).
            members: bool (S, n); None where no shadow was trained on x.
        """
        if members is None:
            return answers.logsumexp(0) - log(len(answers))
        inside, outside = _mean(answers, members, "trained with it"), _mean(answers, ~members, "trained without it")
        return torch.logaddexp(inside, outside) - log(2)

    def scores(self, access: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = access.known(self.shadows, self.name)
        z = access.population
        if z is None or not len(z.target):
            needs = "compares with a population that no model was trained on: give one"
            raise GradwireError(f"attack {self.name!r} {needs}")
        ratio = logsigmoid(access.target.label) - self.prior(logsigmoid(answers.label), members)
        level = logsigmoid(z.target.label) - self.prior(logsigmoid(z.shadows.label), None)
        levels, needed = level.T.contiguous().sort().values, (ratio.T - log(self.gamma)).contiguous()
        share = torch.searchsorted(levels, needed, right=True).double().mean(0)
        return ((share + 0.5) / (len(level) - share + 0.5)).log()


@dataclass(frozen=True)
class RMIAOffline(RMIA):
    """RMIA without shadows trained on the candidate: p(x) ≈ ½·((1 + a)·p_out(x) + 1 − a).

    Attributes:
        a: of p_in ≈ a·p_out + 1 − a, between 0 (members are always certain) and 1.
    """

    name: ClassVar[str] = "rmia-offline"
    sorts: ClassVar[int] = 1

    a: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.a <= 1:
            raise GradwireError(f"{self.name}: a is {self.a}; it must lie between 0 and 1")

    def prior(self, answers: Tensor, members: Tensor | None) -> Tensor:
        """log p(x), see the class."""
        outside = torch.ones(answers.shape[:2], dtype=torch.bool) if members is None else ~members
        return (0.5 * ((1 + self.a) * _mean(answers, outside, "trained without it").exp() + 1 - self.a)).log()


def _mean(answers: Tensor, chosen: Tensor, which: str) -> Tensor:
    """The log of the mean probability over the chosen shadows, shape (n, A)."""
    count = chosen.sum(0)
    if (count == 0).any():
        raise GradwireError(f"candidate {int(count.argmin())} has no shadow model {which}; the attack needs one")
    kept = answers.masked_fill(~chosen[..., None], -torch.inf)
    return kept.logsumexp(0) - count.double().log()[:, None]
