"""The cross-entropy attack: the loss again, with a threshold for each class.

"Trustworthiness of Stochastic Gradient Descent in Distributed Learning" names loss and cross-entropy as two attacks,
after Yeom et al. and after Song and Mittal. For one label an example the two numbers are the same one, so that their
figures can differ by the threshold alone; and what Song and Mittal add (USENIX Security 2021, §3.2.1) is a threshold
for each class. The paper does not say so itself: this is the reading under which both of its citations hold.
"""

from dataclasses import dataclass
from typing import ClassVar

from gradwire.attacks.membership.loss import Loss


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """log p_y / (1 − p_y), compared with the threshold of class y."""

    name: ClassVar[str] = "cross-entropy"
    by_class: ClassVar[bool] = True
