"""The robust membership inference attack.

S. Zarifzadeh, P. Liu, R. Shokri, "Low-cost high-power membership inference attacks", ICML 2024, eq. 3 to 5.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import log
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.errors import GradwireError, positive
from gradwire.metrics import roc

GAMMAS, AS = (1.0, 1.2, 1.5, 2.0, 4.0), (0.0, 0.3, 0.6, 1.0)
"""What is tried of γ and a."""
REHEARSALS = 4
"""Shadows that take the target's place to choose among these, at most."""
CLEARLY = 0.01
"""By how much area a value must be better than an earlier one, for scores of different γ have different levels."""


@dataclass(frozen=True)
class RMIA(MembershipAttack):
    """Pr_z[ (p(x|θ)/p(x)) / (p(z|θ)/p(z)) ≥ γ ]: the share of other examples z that θ raises less than the candidate x.

    p(·|θ) is the probability of the label; p(x) is its mean over shadow models, those with x and those without in equal
    parts; z runs over a population that no model was trained on. The score is the log-odds of the mean share over
    augmentations, with half an example added to both sides to keep them finite.

    Attributes:
        gamma: γ; the paper takes 2. None: 1, or another of `GAMMAS` where this tells shadows' members clearly better,
            each shadow attacked with the others for its references.
    """

    name: ClassVar[str] = "rmia"
    sorts: ClassVar[int] = 2

    gamma: float | None = None

    def __post_init__(self) -> None:
        positive(self.name, self, "gamma")

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
        chosen = self.settled(access)
        assert chosen.gamma is not None
        ratio = logsigmoid(access.target.label) - chosen.prior(logsigmoid(answers.label), members)
        level = logsigmoid(z.target.label) - chosen.prior(logsigmoid(z.shadows.label), None)
        levels, needed = level.T.contiguous().sort().values, (ratio.T - log(chosen.gamma)).contiguous()
        share = torch.searchsorted(levels, needed, right=True).double().mean(0)
        return ((share + 0.5) / (len(level) - share + 0.5)).log()

    def choices(self) -> list[Self]:
        """The attack with every value of what was left open, the fallback first; itself alone where nothing was."""
        return [replace(self, gamma=gamma) for gamma in GAMMAS] if self.gamma is None else [self]

    def settled(self, access: QueryAccess) -> Self:
        """The first choice that none clearly surpasses in area under the curve, over shadows in the target's place."""
        several = self.choices()
        if len(several) == 1:
            return several[0]
        rehearsed = [access.rehearsal(shadow) for shadow in range(min(REHEARSALS, len(access.shadows or ())))]
        areas = torch.zeros(len(several), dtype=torch.float64)
        for each, truth in rehearsed:
            own = self._judged(each)
            if not (truth[own].any() and (~truth[own]).any()):
                continue
            for index, choice in enumerate(several):
                areas[index] += roc(choice.scores(_of(each, own)), truth[own]).auc
        return several[int((areas >= areas.max() - CLEARLY * len(rehearsed)).int().argmax())]

    def _judged(self, access: QueryAccess) -> Tensor:
        """The candidates that have references of every sort that the attack needs, bool (n,)."""
        if access.members is None:
            return torch.zeros(len(access.labels), dtype=torch.bool)
        count = access.members.sum(0)
        without = len(access.members) - count
        return (without >= self.least) & ((count >= self.least) | (self.sorts < 2))


@dataclass(frozen=True)
class RMIAOffline(RMIA):
    """RMIA without shadows trained on the candidate: p(x) ≈ ½·((1 + a)·p_out(x) + 1 − a).

    Attributes:
        a: of p_in ≈ a·p_out + 1 − a, between 0 (members are always certain) and 1; the paper takes 0.3 for CIFAR-10.
            None: chosen together with γ; 0.3 where there are too few references.
    """

    name: ClassVar[str] = "rmia-offline"
    sorts: ClassVar[int] = 1

    a: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.a is not None and not 0 <= self.a <= 1:
            raise GradwireError(f"{self.name}: a is {self.a}; it must lie between 0 and 1")

    def prior(self, answers: Tensor, members: Tensor | None) -> Tensor:
        """log p(x), see the class."""
        a = self.a if self.a is not None else AS[1]
        outside = torch.ones(answers.shape[:2], dtype=torch.bool) if members is None else ~members
        return (0.5 * ((1 + a) * _mean(answers, outside, "trained without it").exp() + 1 - a)).log()

    def choices(self) -> list[Self]:
        """See `RMIA`."""
        values = sorted(AS, key=lambda a: a != AS[1]) if self.a is None else [self.a]
        return [replace(choice, a=a) for choice, a in product(super().choices(), values)]


def _of(access: QueryAccess, own: Tensor) -> QueryAccess:
    """Query access to some of the candidates: a mask, bool (n,)."""
    shadows, members = access.known(1, "rehearsal")
    return replace(
        access,
        target=access.target[own],
        labels=access.labels[own],
        shadows=shadows.each(lambda tensor: tensor[:, own]),
        members=members[:, own],
    )


def _mean(answers: Tensor, chosen: Tensor, which: str) -> Tensor:
    """The log of the mean probability over the chosen shadows, shape (n, A)."""
    count = chosen.sum(0)
    if (count == 0).any():
        raise GradwireError(f"candidate {int(count.argmin())} has no shadow model {which}; the attack needs one")
    kept = answers.masked_fill(~chosen[..., None], -torch.inf)
    return kept.logsumexp(0) - count.double().log()[:, None]
