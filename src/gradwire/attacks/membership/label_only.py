"""Attacks on models that answer with a class alone.

Is the answer right? S. Yeom et al., "Privacy risk in machine learning", CSF 2018, adversary 2, the "gap attack"; in how
many augmentations? C. A. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-only membership inference
attacks", ICML 2021, §4.2.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class LabelOnly(MembershipAttack):
    """The share of a candidate's augmentations whose likeliest class is its label: 0 or 1 of the candidate alone."""

    name: ClassVar[str] = "label-only"
    probabilities: ClassVar[bool] = True

    def scores(self, access: QueryAccess) -> Tensor:
        """See the class."""
        if access.target.top is None:
            raise GradwireError(f"attack {self.name!r} needs the likeliest class; these signals are of losses alone")
        return (access.target.label == access.target.top).double().mean(1)
