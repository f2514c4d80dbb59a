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
    """Pr_z[ (p(x|θ)/p(x)) / (p(z|θ)/p(z)) ≥ γ ]: how many others a candidate x beats in how much θ raises it.

    p(·|θ) is the probability of the label; p(x) is its mean over shadow models, those with x and those without in
    equal parts; z runs over a population that nobody was trained on. The share of z, the mean over augmentations, is
    given as its log-odds, with half an example added to both sides to keep them finite.

    Attributes:
        gamma: γ, by how much x must beat z.
    """

    name: ClassVar[str] = "rmia"

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise GradwireError(f"{self.name}: gamma is {self.gamma}; it must be above 0")

    @property
    def shadows(self) -> int:
        """One in and one out."""
        return 2

    def prior(self, answers: Tensor, members: Tensor) -> Tensor:
        """log p(x), shape (n, A), from log p(x|θ′) of shadows θ′, shape (S, n, A), and members, bool (S, n)."""
        inside, outside = _mean(answers, members, "trained with it"), _mean(answers, ~members, "trained without it")
        return torch.logaddexp(inside, outside) - log(2)

    def scores(self, evidence: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = evidence.known(self.shadows, self.name)
        if evidence.population is None or not len(evidence.population.target):
            raise GradwireError(
                f"attack {self.name!r} compares with a population that no model was trained on: give one"
            )
        z = evidence.population
        ratio = logsigmoid(evidence.target.label) - self.prior(logsigmoid(answers.label), members)
        level = logsigmoid(z.target.label) - self.population_prior(logsigmoid(z.shadows.label))
        levels, needed = level.T.contiguous().sort().values, (ratio.T - log(self.gamma)).contiguous()
        beaten = torch.searchsorted(levels, needed, right=True)
        share, others = beaten.double().mean(0), len(level)
        return ((share + 0.5) / (others - share + 0.5)).log()

    def population_prior(self, answers: Tensor) -> Tensor:
        """log p(z), shape (m, A): z is in no model's training set, so that every shadow is an out one."""
        return answers.logsumexp(0) - log(len(answers))


@dataclass(frozen=True)
class RMIAOffline(RMIA):
    """The same without shadows trained on the candidate: p(x) ≈ ½·((1 + a)·p_out(x) + 1 − a).

    Attributes:
        a: how far p_in follows p_out, p_in ≈ a·p_out + 1 − a: between 0 (members are always certain) and 1.
    """

    name: ClassVar[str] = "rmia-offline"

    a: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.a <= 1:
            raise GradwireError(f"{self.name}: a is {self.a}; it must lie between 0 and 1")

    @property
    def shadows(self) -> int:
        """One without the candidate."""
        return 1

    def prior(self, answers: Tensor, members: Tensor) -> Tensor:
        """See `RMIA`; log p(x) by the attribute `a`."""
        outside = _mean(answers, ~members, "trained without it").exp()
        return (0.5 * ((1 + self.a) * outside + 1 - self.a)).log()

    def population_prior(self, answers: Tensor) -> Tensor:
        """The same of z, which no shadow was trained on."""
        return self.prior(answers, torch.zeros(answers.shape[:2], dtype=torch.bool))


def _mean(answers: Tensor, chosen: Tensor, which: str) -> Tensor:
    """The log of the mean probability over chosen shadows, shape (n, A).

    Raises:
        GradwireError: a candidate has none of them.
    """
    count = chosen.sum(0)
    if (count == 0).any():
        raise GradwireError(f"candidate {int(count.argmin())} has no shadow model {which}; the attack needs one")
    kept = answers.masked_fill(~chosen[..., None], -torch.inf)
    return kept.logsumexp(0) - count.double().log()[:, None]
