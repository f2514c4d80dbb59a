"""Attacks that compare one number of the target's answer with a threshold: no shadow models are needed.

Prediction confidence: R. Shokri, M. Stronati, C. Song, V. Shmatikov, "Membership inference attacks against machine
learning models", S&P 2017, as a threshold on the largest probability (A. Salem et al., "ML-Leaks", NDSS 2019,
adversary 3), which needs no label. Loss: S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy risk in machine
learning: analyzing the connection to overfitting", CSF 2018, adversary 1: a loss below the mean training loss is called
a member's. Modified entropy: L. Song, P. Mittal, "Systematic evaluation of privacy risks of machine learning models",
USENIX Security 2021, eq. 8 and 9.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.attack import MembershipAttack
from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class _OneSignal(MembershipAttack):
    signal: ClassVar[str]

    def scores(self, access: QueryAccess) -> Tensor:
        """One of the target's `Signals`, the mean over augmentations."""
        signal: Tensor | None = getattr(access.target, self.signal)
        if signal is None:
            needs = f"needs {self.signal!r}, and these signals are of losses, without probabilities of classes"
            raise GradwireError(f"attack {self.name!r} {needs}; take loss, lira or rmia")
        return signal.mean(1)


@dataclass(frozen=True)
class Prediction(_OneSignal):
    """log p / (1 − p), with p the probability of the likeliest class: a model is surer of what it was trained on."""

    name: ClassVar[str] = "prediction"
    probabilities: ClassVar[bool] = True
    signal: ClassVar[str] = "top"


@dataclass(frozen=True)
class Loss(_OneSignal):
    """log p_y / (1 − p_y), with p_y the probability of the label: the order of −loss, with more digits near 1.

    Of a loss L without probabilities, p_y stands for e^−L.
    """

    name: ClassVar[str] = "loss"
    signal: ClassVar[str] = "label"

    def at_loss(self, loss: float) -> float | None:
        """log p / (1 − p) at p = e^−loss."""
        return math.inf if loss <= 0 else -loss - math.log(-math.expm1(-loss))


@dataclass(frozen=True)
class LossByClass(Loss):
    """log p_y / (1 − p_y), compared with the threshold of class y.

    "Trustworthiness of Stochastic Gradient Descent in Distributed Learning" lists loss (after Yeom et al.) and
    cross-entropy (after Song and Mittal) as two attacks. With one label an example both are the same number; the
    difference that fits both citations is the threshold for each class that Song and Mittal (§3.2.1) add.
    """

    name: ClassVar[str] = "cross-entropy"
    by_class: ClassVar[bool] = True


@dataclass(frozen=True)
class Mentr(_OneSignal):
    """−log Mentr(p, y), see `signals.mentr`, compared with the threshold of class y."""

    name: ClassVar[str] = "mentr"
    probabilities: ClassVar[bool] = True
    signal: ClassVar[str] = "certainty"
    by_class: ClassVar[bool] = True
