"""The interface of membership attacks on a model's answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.membership.query_access import QueryAccess
from gradwire.registry import MEMBERSHIP


@dataclass(frozen=True)
class MembershipAttack(ABC):
    """A frozen set of hyper-parameters that turns query access into one score a candidate.

    Attributes:
        by_class: whether each class has its own threshold.
        probabilities: whether the attack needs the probabilities of classes, and not the loss alone.
        sorts: of shadow models that the attack needs: 2, trained with a candidate and without; 1, without; or none.
    """

    name: ClassVar[str]
    by_class: ClassVar[bool] = False
    probabilities: ClassVar[bool] = False
    sorts: ClassVar[int] = 0

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return MEMBERSHIP.spec(self)

    @property
    def shadows(self) -> int:
        """The fewest shadow models that the attack works with, of all sorts together."""
        return self.sorts * self.least

    @property
    def least(self) -> int:
        """The fewest shadow models of a sort."""
        return 1

    @abstractmethod
    def scores(self, access: QueryAccess) -> Tensor:
        """Scores, float64, shape (n,): the higher, the likelier a member."""

    def at_loss(self, loss: float) -> float | None:
        """The score of a candidate with this loss, in nats; None where the loss does not determine the score."""
        return None
