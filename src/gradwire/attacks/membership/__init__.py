"""Membership inference: who was in the training set?

Attacks on a model's answers (`MembershipAttack`) take `QueryAccess`; attacks on the wire (`WireAttack`) take
`WireStatistics`, which `observe` computes from the views of a round. Both give one score a candidate: the higher, the
likelier a member.
"""

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.confidence import Loss, LossByClass, Mentr, Prediction
from gradwire.attacks.membership.fedmia import FedMIA
from gradwire.attacks.membership.gradients import Cosine, InnerProduct, NormDifference, WireAttack
from gradwire.attacks.membership.label_only import LabelOnly
from gradwire.attacks.membership.lira import Lira, LiraOffline
from gradwire.attacks.membership.query_access import Answers, Population, QueryAccess
from gradwire.attacks.membership.rmia import RMIA, RMIAOffline
from gradwire.attacks.membership.signals import Signals, signals
from gradwire.attacks.membership.wire_statistics import WireStatistics, observe
from gradwire.registry import MEMBERSHIP


def attack(spec: str | MembershipAttack | WireAttack) -> MembershipAttack | WireAttack:
    """The attack with this spec, such as `lira-offline:sides=two` or `fedmia:statistic=norm-difference`."""
    return MEMBERSHIP.parse(spec)


__all__ = [
    "RMIA",
    "Answers",
    "Cosine",
    "FedMIA",
    "InnerProduct",
    "LabelOnly",
    "Lira",
    "LiraOffline",
    "Loss",
    "LossByClass",
    "MembershipAttack",
    "Mentr",
    "NormDifference",
    "Population",
    "Prediction",
    "QueryAccess",
    "RMIAOffline",
    "Signals",
    "WireAttack",
    "WireStatistics",
    "attack",
    "observe",
    "signals",
]
