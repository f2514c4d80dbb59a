"""The loss attack.

S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy risk in machine learning: analyzing the connection to
overfitting", CSF 2018, adversary 1: who has a loss below the mean training loss is called a member.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess


@dataclass(frozen=True)
class Loss(MembershipAttack):
    """log p_y / (1 − p_y): orders candidates as −loss = log p_y does, and keeps its digits where p_y is near 1."""

    name: ClassVar[str] = "loss"

    def scores(self, evidence: QueryAccess) -> Tensor:
        """The mean over augmentations."""
        return evidence.target.label.mean(1)

    def at_loss(self, loss: float) -> float | None:
        """log p / (1 − p) at p = e^−loss."""
        return math.inf if loss <= 0 else -loss - math.log(-math.expm1(-loss))
