"""The prediction attack: a model is surer of what it was trained on, whatever it takes it for.

Prediction confidence in the sense of R. Shokri, M. Stronati, C. Song, V. Shmatikov, "Membership inference attacks
against machine learning models", S&P 2017, as a threshold on the largest probability (A. Salem et al., "ML-Leaks", NDSS
2019, adversary 3), which asks for no label.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess


@dataclass(frozen=True)
class Prediction(MembershipAttack):
    """log p / (1 − p), with p the probability of the likeliest class."""

    name: ClassVar[str] = "prediction"

    def scores(self, evidence: QueryAccess) -> Tensor:
        """The mean over augmentations."""
        return evidence.target.top.mean(1)
