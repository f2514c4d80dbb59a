"""The interface of every protocol for a secure sum: a client's part, the server's part, a total."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import part
from gradwire.secure.identity import Gathering, State
from gradwire.secure.masks import Codes
from gradwire.secure.ring import Ring
from gradwire.wire import ClientHalf, Deal, Send, Tensors

T = TypeVar("T")
Uploads = Mapping[str, Tensors]
ServerPart = Generator[Send | Deal, Uploads, T]
"""A stretch of a server half: takes uploads as they come, yields replies, returns its outcome."""


@dataclass(frozen=True)
class Total:
    """A sum over Z_R: the `codes` (shape (K,)) of so many `contributors`, added up modulo R.

    Attributes:
        liars: clients that the server has caught while the sum was unmasked, party → at what.
    """

    codes: Codes
    contributors: int
    liars: Mapping[str, str] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a message."""
        return {"sum": torch.from_numpy(self.codes), "contributors": torch.tensor(self.contributors)}

    def without(self, codes: Codes) -> "Total":
        """The sum of the others, for one who knows the codes of one contributor."""
        return Total(self.codes - codes, self.contributors - 1)

    @classmethod
    def of(cls, tensors: Tensors, ring: Ring, count: int | None = None, where: str = "the server") -> "Total":
        """The total that `tensors()` put on the wire; WireError about `where` if it is not `count` ring elements."""
        codes, contributors = part(tensors, "sum", where), part(tensors, "contributors", where)
        if contributors.numel() != 1:
            raise WireError(f"{where}: contributors are {contributors.tolist()}; they must be one number")
        return cls(ring.check(codes, codes.numel() if count is None else count, where), int(contributors))


@dataclass(frozen=True)
class Member(ABC):
    """A client's part in a secure sum.

    Attributes:
        seat: its place among the clients.
        state: its private state after the round.
    """

    gathering: Gathering
    seat: int
    state: State = field(repr=False)

    def heard(self, phase: str, tensors: Tensors) -> Self:
        """The same member after the server has said this to all: its masks are bound to it from now on."""
        return replace(self, gathering=self.gathering.heard(phase, tensors))

    @abstractmethod
    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)) in a phase; return the server's reply to the sum."""

    @abstractmethod
    def shared(self, place: int) -> bytes:
        """A secret of this round that only this client and the one at `place` know, to derive keys from."""

    def add(self, codes: Codes, ring: Ring, phase: str) -> ClientHalf[Total]:
        """Contribute to a sum that the server releases to all."""
        reply = yield from self.contribute(codes, phase)
        return Total.of(reply, ring, len(codes), self.gathering.where(phase, "server"))


@dataclass(frozen=True)
class SumServer(ABC):
    """The server's part in a secure sum."""

    gathering: Gathering

    def heard(self, phase: str, tensors: Tensors) -> Self:
        """The same server after it has said this to all."""
        return replace(self, gathering=self.gathering.heard(phase, tensors))

    @abstractmethod
    def open(self, uploads: Uploads) -> ServerPart[tuple[Self, Uploads]]:
        """Answer the phases before the sum, from these uploads on.

        Returns:
            the server after what it has said in them, and the uploads of the phase that follows.
        """

    @abstractmethod
    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of what the clients upload in this phase; the caller replies to its closing phase."""

    def added(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> tuple[Codes, dict[str, str]]:
        """The sum of the masked codes of a phase, and those whose are not `count` ring elements, party → why."""
        codes, malformed = np.zeros(count, dtype=ring.dtype), dict[str, str]()
        for party, tensors in uploads.items():
            where = self.gathering.where(phase, party)
            try:
                codes += ring.check(part(tensors, "masked", where), count, where)
            except WireError as error:
                malformed[party] = str(error)
        return codes, malformed


class SecureSum(ABC):
    """A protocol by which clients add up vectors that nobody may see one by one."""

    @abstractmethod
    def join(self, gathering: Gathering, private: State, public: State) -> ClientHalf[Member]:
        """The client's part in a round, after the phases before the sum."""

    @abstractmethod
    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[Member]:
        """The client's part in another sum of the same round."""

    @abstractmethod
    def server(self, gathering: Gathering, public: State | None = None) -> SumServer:
        """The server's part in a round with this public state, or (None) in another sum of the same round."""

    def public(self, gathering: Gathering) -> State:
        """The public state after a round; none, where every round begins anew."""
        return {}

    def closing(self, phase: str) -> str:
        """The phase whose reply carries the sum that was begun in `phase`."""
        return phase
