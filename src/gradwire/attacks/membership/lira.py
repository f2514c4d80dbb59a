"""The likelihood-ratio attack.

N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr, "Membership inference attacks from first principles", S&P
2022, algorithm 1 (online) and eq. 4 (offline).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.special import log_ndtr

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.attacks.membership.signals import Signals
from gradwire.attacks.membership.variance import Variance, moments, settle
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Lira(MembershipAttack):
    """log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out), with φ = log p_y / (1 − p_y).

    Augmentations are taken as independent, as the paper takes them, and the score is the mean over them. The paper's
    global variance is the within-example one; its reference code takes that of all values around one mean instead.

    Attributes:
        variance: of each example's shadows on their own, of all examples pooled (better below some 64 shadows), or
            the first shrunk towards what examples share.
    """

    name: ClassVar[str] = "lira"

    variance: Variance = "per-example"

    @property
    def shadows(self) -> int:
        """One, or for a variance of its own two, in and out."""
        return 2 * _fewest(self.variance)

    def scores(self, evidence: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = evidence.known(self.shadows, self.name)
        phi = evidence.target.label
        inside = _log_normal(phi, *_fit(answers, members, self, "trained with it"))
        outside = _log_normal(phi, *_fit(answers, ~members, self, "trained without it"))
        return (inside - outside).mean(1)


@dataclass(frozen=True)
class LiraOffline(Lira):
    """How unlikely φ is for a model trained without the candidate, N(μ_out, σ²_out); no shadow is trained with it.

    Attributes:
        sides: "one": the paper's Pr[Z ≤ φ], here as its log-odds, which do not saturate. "two": the reference code's
            −log N(φ; μ_out, σ²_out), for which a model that is *less* sure than the shadows is as suspicious as one
            that is surer.
    """

    name: ClassVar[str] = "lira-offline"

    sides: Literal["one", "two"] = "one"

    @property
    def shadows(self) -> int:
        """One, or for a variance of its own two, without the candidate."""
        return _fewest(self.variance)

    def scores(self, evidence: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = evidence.known(self.shadows, self.name)
        mean, variance = _fit(answers, ~members, self, "trained without it")
        phi = evidence.target.label
        if self.sides == "two":
            return -_log_normal(phi, mean, variance).mean(1)
        z = (phi - mean) / variance.sqrt()
        return (log_ndtr(z) - log_ndtr(-z)).mean(1)


def _fewest(variance: Variance) -> int:
    """The fewest shadows on one side that a fit works with."""
    return 1 if variance == "global" else 2


def _fit(answers: Signals, chosen: Tensor, attack: Lira, which: str) -> tuple[Tensor, Tensor]:
    """Mean and variance of φ over the chosen shadows, shape (n, A) each.

    Raises:
        GradwireError: a candidate has too few of them.
    """
    mean, variance, count = moments(answers.label, chosen)
    least = _fewest(attack.variance)
    if (count < least).any():
        short = int(count.argmin())
        raise GradwireError(
            f"attack {attack.name!r}: candidate {short} has {int(count[short])} shadow models {which}; "
            f"variance {attack.variance!r} needs at least {least}"
        )
    if (count < 2).all():
        raise GradwireError(
            f"attack {attack.name!r}: no candidate has two shadow models {which}, so none has a variance"
        )
    return mean, settle(variance, count, attack.variance)


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((x - mean).square() / variance + (2 * torch.pi * variance).log())
