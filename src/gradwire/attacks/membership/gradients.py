"""Attacks that compare an update with a candidate's gradient: inner product, cosine, and norm difference.

J. Li, N. Li, B. Ribeiro, "Effective passive membership inference attacks in federated learning against
overparameterized models", ICLR 2023: gradients of different examples of a large model are nearly orthogonal, so an
update usually has a component along an example's gradient only if the example was in it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.membership.wire_statistics import WireStatistics
from gradwire.errors import GradwireError, positive
from gradwire.registry import MEMBERSHIP

TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class WireAttack(ABC):
    """A frozen set of hyper-parameters that turns wire statistics of at least `clients` into one score a candidate."""

    name: ClassVar[str]
    clients: ClassVar[int] = 1

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return MEMBERSHIP.spec(self)

    @abstractmethod
    def scores(self, statistics: WireStatistics, victim: int = 0) -> Tensor:
        """Scores, float64, shape (n,): the higher, the likelier was the candidate in the data of client `victim`."""

    def check(self, statistics: WireStatistics, victim: int) -> None:
        """Refuse statistics of too few clients, and a victim that is not among them."""
        clients = statistics.inner.shape[1]
        if clients < self.clients:
            raise GradwireError(f"attack {self.name!r} has the messages of {clients} clients; it needs {self.clients}")
        if not 0 <= victim < clients:
            raise GradwireError(f"victim is {victim}; there are clients 0 to {clients - 1}")


@dataclass(frozen=True)
class Averaged(WireAttack):
    """An attack whose score is the mean over rounds of a statistic of one round and one client."""

    @abstractmethod
    def statistic(self, statistics: WireStatistics) -> Tensor:
        """The statistic of each round, client and candidate, shape (T, C, n)."""

    def scores(self, statistics: WireStatistics, victim: int = 0) -> Tensor:
        """See the class."""
        self.check(statistics, victim)
        return self.statistic(statistics)[:, victim].mean(0)


@dataclass(frozen=True)
class InnerProduct(Averaged):
    """⟨A(G), y⟩."""

    name: ClassVar[str] = "inner-product"

    def statistic(self, statistics: WireStatistics) -> Tensor:
        """See the class."""
        return statistics.inner


@dataclass(frozen=True)
class Cosine(Averaged):
    """⟨A(G), y⟩ / (‖A(G)‖·‖y‖); 0 where either norm is 0."""

    name: ClassVar[str] = "cosine"

    def statistic(self, statistics: WireStatistics) -> Tensor:
        """See the class."""
        return statistics.inner / (statistics.square * statistics.energy[..., None]).sqrt().clamp_min(TINY)


@dataclass(frozen=True)
class NormDifference(Averaged):
    """‖y‖² − ‖y − s·A(G)‖² = 2s·⟨A(G), y⟩ − s²·‖A(G)‖²: by how much the update shrinks without the candidate.

    Attributes:
        share: s, how much of an example's gradient the update holds: 1 in the paper, 1/B for the mean of a batch.
    """

    name: ClassVar[str] = "norm-difference"

    share: float = 1.0

    def __post_init__(self) -> None:
        positive(self.name, self, "share")

    def statistic(self, statistics: WireStatistics) -> Tensor:
        """See the class."""
        return 2 * self.share * statistics.inner - self.share**2 * statistics.square
