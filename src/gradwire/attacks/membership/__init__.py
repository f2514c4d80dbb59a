"""Membership inference: who was in the training set? One file an attack.

Attacks on a model's answers (`ATTACKS`) take `QueryAccess`; attacks on the wire (`WIRE_ATTACKS`) take
`WireStatistics`, which `observe` computes from the views of a round. Both give one score a candidate: the higher, the
likelier a member.
"""

from collections.abc import Mapping

from gradwire import spec_syntax
from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.confidence import CrossEntropy, Loss, Mentr, Prediction
from gradwire.attacks.membership.fedmia import FedMIA
from gradwire.attacks.membership.gradients import Cosine, InnerProduct, NormDifference, WireAttack
from gradwire.attacks.membership.lira import Lira, LiraOffline
from gradwire.attacks.membership.query_access import Answers, Population, QueryAccess
from gradwire.attacks.membership.rmia import RMIA, RMIAOffline
from gradwire.attacks.membership.signals import Signals, signals
from gradwire.attacks.membership.wire_statistics import WireStatistics, observe

ATTACKS: Mapping[str, type[MembershipAttack]] = {
    kind.name: kind for kind in (Prediction, Loss, CrossEntropy, Mentr, Lira, LiraOffline, RMIA, RMIAOffline)
}
WIRE_ATTACKS: Mapping[str, type[WireAttack]] = {
    kind.name: kind for kind in (InnerProduct, Cosine, NormDifference, FedMIA)
}


def attack(spec: str) -> MembershipAttack:
    """The attack on answers with this spec, such as `lira` or `lira-offline:sides=two,variance=global`.

    Raises:
        GradwireError: an unknown name or parameter, or a value that does not fit.
    """
    return spec_syntax.read("attack", spec, ATTACKS)


def wire_attack(spec: str) -> WireAttack:
    """The attack on the wire with this spec, such as `cosine` or `fedmia:statistic=norm-difference`.

    Raises:
        GradwireError: an unknown name or parameter, or a value that does not fit.
    """
    return spec_syntax.read("attack", spec, WIRE_ATTACKS)


__all__ = [
    "ATTACKS",
    "RMIA",
    "WIRE_ATTACKS",
    "Answers",
    "Cosine",
    "CrossEntropy",
    "FedMIA",
    "InnerProduct",
    "Lira",
    "LiraOffline",
    "Loss",
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
    "wire_attack",
]
