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
    """log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out), with φ = log p_y / (1 − p_y); the mean over augmentations.

    Augmentations are taken as independent, as in the paper. The paper's global variance is the within-example one; its
    reference code takes the variance of all values around one mean instead.

    Attributes:
        variance: "per-example"; "global", pooled over examples (better below some 64 shadows); or "shrunk", that of
            each example moved towards what examples share.
    """

    name: ClassVar[str] = "lira"
    sorts: ClassVar[int] = 2

    variance: Variance = "per-example"

    @property
    def least(self) -> int:
        """A variance takes two shadows; a pooled one takes one."""
        return 1 if self.variance == "global" else 2

    def scores(self, access: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = access.known(self.shadows, self.name)
        phi = access.target.label
        inside = _log_normal(phi, *self.fit(answers, members, "trained with it"))
        outside = _log_normal(phi, *self.fit(answers, ~members, "trained without it"))
        return (inside - outside).mean(1)

    def fit(self, answers: Signals, chosen: Tensor, which: str) -> tuple[Tensor, Tensor]:
        """Mean and variance of φ over the chosen shadows, shape (n, A) each."""
        mean, variance, count = moments(answers.label, chosen)
        if (count < self.least).any():
            short = int(count.argmin())
            raise GradwireError(
                f"attack {self.name!r}: candidate {short} has {int(count[short])} shadow models {which}; "
                f"variance {self.variance!r} needs at least {self.least}"
            )
        if (count < 2).all():
            none = f"no candidate has two shadow models {which}, so none has a variance"
            raise GradwireError(f"attack {self.name!r}: {none}")
        return mean, settle(variance, count, self.variance)


@dataclass(frozen=True)
class LiraOffline(Lira):
    """How unlikely φ is for a model trained without the candidate, N(μ_out, σ²_out).

    Attributes:
        sides: "one": the paper's Pr[Z ≤ φ], as its log-odds, which do not saturate. "two": the reference code's
            −log N(φ; μ_out, σ²_out), which is as high for a model *less* sure than the shadows as for a surer one.
    """

    name: ClassVar[str] = "lira-offline"
    sorts: ClassVar[int] = 1

    sides: Literal["one", "two"] = "one"

    def scores(self, access: QueryAccess) -> Tensor:
        """See the class."""
        answers, members = access.known(self.shadows, self.name)
        mean, variance = self.fit(answers, ~members, "trained without it")
        phi = access.target.label
        if self.sides == "two":
            return -_log_normal(phi, mean, variance).mean(1)
        z = (phi - mean) / variance.sqrt()
        return (log_ndtr(z) - log_ndtr(-z)).mean(1)


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((x - mean).square() / variance + (2 * torch.pi * variance).log())
