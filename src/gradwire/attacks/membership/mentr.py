"""Modified entropy with a threshold for each class.

L. Song, P. Mittal, "Systematic evaluation of privacy risks of machine learning models", USENIX Security 2021, eq. 8 and
9; the entropy itself is `signals.mentr`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess


@dataclass(frozen=True)
class Mentr(MembershipAttack):
    """−log Mentr(p, y), compared with the threshold of class y."""

    name: ClassVar[str] = "mentr"
    by_class: ClassVar[bool] = True

    def scores(self, evidence: QueryAccess) -> Tensor:
        """The mean over augmentations."""
        return evidence.target.certainty.mean(1)
