"""What a membership attack on a model's answers is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.registry import MEMBERSHIP


@dataclass(frozen=True)
class MembershipAttack(ABC):
    """A frozen set of hyper-parameters that turns evidence into one score a candidate.

    Attributes:
        name: what it is called on the command line.
        by_class: whether each class has a threshold of its own.
    """

    name: ClassVar[str]
    by_class: ClassVar[bool] = False

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return MEMBERSHIP.spec(self)

    @property
    def shadows(self) -> int:
        """The fewest shadow models that it works with."""
        return 0

    @abstractmethod
    def scores(self, evidence: QueryAccess) -> Tensor:
        """Scores, float64, shape (n,): the higher, the likelier a member.

        Raises:
            GradwireError: the evidence lacks something that the attack needs.
        """

    def at_loss(self, loss: float) -> float | None:
        """The score of a candidate with this loss, in nats; None where the loss does not settle the score."""
        return None
