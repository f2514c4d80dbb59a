"""Membership inference: who was in the training set? One file an attack.

Attacks on a model's answers (`ATTACKS`) take `Evidence`; attacks on the wire (`WIRE_ATTACKS`) take `Traces`, which
`observe` makes of the views of a round. Both give one score a candidate, the higher the likelier a member.
"""

from collections.abc import Mapping

from gradwire import spelling
from gradwire.attacks.membership.attack import Attack
from gradwire.attacks.membership.cross_entropy import CrossEntropy
from gradwire.attacks.membership.evidence import Answers, Evidence, Population
from gradwire.attacks.membership.fedmia import FedMIA
from gradwire.attacks.membership.gradients import Cosine, InnerProduct, NormDifference, WireAttack
from gradwire.attacks.membership.lira import Lira, LiraOffline
from gradwire.attacks.membership.loss import Loss
from gradwire.attacks.membership.mentr import Mentr
from gradwire.attacks.membership.prediction import Prediction
from gradwire.attacks.membership.rmia import RMIA, RMIAOffline
from gradwire.attacks.membership.signals import Signals, signals
from gradwire.attacks.membership.traces import Traces, observe

ATTACKS: Mapping[str, type[Attack]] = {
    kind.name: kind for kind in (Prediction, Loss, CrossEntropy, Mentr, Lira, LiraOffline, RMIA, RMIAOffline)
}
WIRE_ATTACKS: Mapping[str, type[WireAttack]] = {
    kind.name: kind for kind in (InnerProduct, Cosine, NormDifference, FedMIA)
}


def attack(spec: str) -> Attack:
    """The attack on answers with this spec, such as `lira` or `lira-offline:sides=two,variance=global`.

    Raises:
        GradwireError: an unknown name or parameter, or a value that does not fit.
    """
    return spelling.read("attack", spec, ATTACKS)


def wire_attack(spec: str) -> WireAttack:
    """The attack on the wire with this spec, such as `cosine` or `fedmia:statistic=norm-difference`.

    Raises:
        GradwireError: an unknown name or parameter, or a value that does not fit.
    """
    return spelling.read("attack", spec, WIRE_ATTACKS)


__all__ = [
    "ATTACKS",
    "RMIA",
    "WIRE_ATTACKS",
    "Answers",
    "Attack",
    "Cosine",
    "CrossEntropy",
    "Evidence",
    "FedMIA",
    "InnerProduct",
    "Lira",
    "LiraOffline",
    "Loss",
    "Mentr",
    "NormDifference",
    "Population",
    "Prediction",
    "RMIAOffline",
    "Signals",
    "Traces",
    "WireAttack",
    "attack",
    "observe",
    "signals",
    "wire_attack",
]
