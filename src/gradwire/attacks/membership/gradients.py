"""What an update has in common with a candidate's gradient: inner product, cosine, and the norm that it takes away.

J. Li, N. Li, B. Ribeiro, "Effective passive membership inference attacks in federated learning against
overparameterized models", ICLR 2023: the gradients of different examples of a large model are nearly orthogonal, so
that an update has a component along an example's gradient if, as a rule, the example was in it. Scores are means over
rounds.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.membership.wire_statistics import WireStatistics
from gradwire.errors import GradwireError
from gradwire.registry import MEMBERSHIP

TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class WireAttack(ABC):
    """A frozen set of hyper-parameters that turns traces into one score a candidate."""

    name: ClassVar[str]

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return MEMBERSHIP.spec(self)

    @property
    def clients(self) -> int:
        """The fewest clients whose messages it works with."""
        return 1

    @abstractmethod
    def scores(self, traces: WireStatistics, victim: int = 0) -> Tensor:
        """Scores, float64, shape (n,): the higher, the likelier was the candidate among the victim's data.

        Args:
            traces: of T rounds and C clients.
            victim: which of the clients is under attack.

        Raises:
            GradwireError: there are too few clients, or no such victim.
        """

    def check(self, traces: WireStatistics, victim: int) -> None:
        """Refuse traces that the attack cannot work with."""
        clients = traces.inner.shape[1]
        if clients < self.clients:
            raise GradwireError(f"attack {self.name!r} has the messages of {clients} clients; it needs {self.clients}")
        if not 0 <= victim < clients:
            raise GradwireError(f"victim is {victim}; there are clients 0 to {clients - 1}")


@dataclass(frozen=True)
class Averaged(WireAttack):
    """An attack whose score is a statistic of one round and one client, the mean over rounds of the victim's."""

    @abstractmethod
    def statistic(self, traces: WireStatistics) -> Tensor:
        """Round by round and client by client, shape (T, C, n)."""

    def scores(self, traces: WireStatistics, victim: int = 0) -> Tensor:
        """The mean over rounds."""
        self.check(traces, victim)
        return self.statistic(traces)[:, victim].mean(0)


@dataclass(frozen=True)
class InnerProduct(Averaged):
    """⟨A(G), y⟩."""

    name: ClassVar[str] = "inner-product"

    def statistic(self, traces: WireStatistics) -> Tensor:
        """See the class."""
        return traces.inner


@dataclass(frozen=True)
class Cosine(Averaged):
    """⟨A(G), y⟩ / (‖A(G)‖·‖y‖); 0 where either is."""

    name: ClassVar[str] = "cosine"

    def statistic(self, traces: WireStatistics) -> Tensor:
        """See the class."""
        return traces.inner / (traces.square * traces.energy[..., None]).sqrt().clamp_min(TINY)


@dataclass(frozen=True)
class NormDifference(Averaged):
    """‖y‖² − ‖y − s·A(G)‖² = 2s·⟨A(G), y⟩ − s²·‖A(G)‖²: what is left shrinks when a part of it is taken away.

    Attributes:
        share: s, how much of an example's gradient the update holds: 1 in the paper, 1/B for the mean of a batch.
    """

    name: ClassVar[str] = "norm-difference"

    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise GradwireError(f"{self.name}: share is {self.share}; it must be above 0")

    def statistic(self, traces: WireStatistics) -> Tensor:
        """See the class."""
        return 2 * self.share * traces.inner - self.share**2 * traces.square
