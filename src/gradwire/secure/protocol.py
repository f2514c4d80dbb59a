"""What every protocol for a secure sum offers to those who build on it: a client's part, the server's part, a total."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

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
    """A sum over Z_R.

    Attributes:
        codes: the sum modulo R, shape (K,).
        contributors: how many clients' codes it is made of.
    """

    codes: Codes
    contributors: int

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a message."""
        return {"sum": torch.from_numpy(self.codes), "contributors": torch.tensor(self.contributors)}

    def without(self, codes: Codes) -> "Total":
        """The sum of the others, for one who knows the codes of one contributor."""
        return Total(self.codes - codes, self.contributors - 1)

    @classmethod
    def of(cls, tensors: Tensors, ring: Ring, count: int | None = None, where: str = "the server") -> "Total":
        """What `tensors()` put on the wire, if it is a sum of `count` elements of the ring.

        Raises:
            WireError: it is not; said of `where`.
        """
        codes, contributors = part(tensors, "sum", where), part(tensors, "contributors", where)
        if contributors.numel() != 1:
            raise WireError(f"{where}: contributors are {contributors.tolist()}; they must be one number")
        return cls(ring.check(codes, codes.numel() if count is None else count, where), int(contributors))


@dataclass(frozen=True)
class Member(ABC):
    """A client's part in a secure sum.

    Attributes:
        seat: its place among the clients.
        state: its private state to go into the next round with.
    """

    gathering: Gathering
    seat: int
    state: State = field(repr=False)

    @abstractmethod
    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)) in a phase; return what the server makes of the sum."""

    @abstractmethod
    def shared(self, place: int) -> bytes:
        """A secret of this round that only this client and the one at `place` know: to be derived from, not used."""

    def add(self, codes: Codes, ring: Ring, phase: str) -> ClientHalf[Total]:
        """Contribute to a sum that the server releases to all."""
        reply = yield from self.contribute(codes, phase)
        return Total.of(reply, ring, len(codes), self.gathering.where(phase, "server"))


@dataclass(frozen=True)
class Host(ABC):
    """The server's part in a secure sum."""

    gathering: Gathering

    @abstractmethod
    def open(self, uploads: Uploads) -> ServerPart[Uploads]:
        """Answer the phases before the sum, from these uploads on; return the uploads of the phase that follows."""

    def added(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> Codes:
        """The masked codes that arrived in a phase, added up: shape (count,).

        Raises:
            WireError: one of them is missing, or not `count` elements of the ring.
        """
        codes = np.zeros(count, dtype=ring.dtype)
        for party, tensors in uploads.items():
            where = self.gathering.where(phase, party)
            codes += ring.check(part(tensors, "masked", where), count, where)
        return codes

    @abstractmethod
    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of what the clients upload in this phase; the reply to its closing phase is left to the caller."""


class SecureSum(ABC):
    """A protocol by which clients add up what nobody may see one by one."""

    @abstractmethod
    def join(self, gathering: Gathering, private: State, public: State) -> ClientHalf[Member]:
        """A client's way into a round."""

    @abstractmethod
    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[Member]:
        """The client's part in another sum of the same round."""

    @abstractmethod
    def host(self, gathering: Gathering, public: State) -> Host:
        """The server's part in a round."""

    @abstractmethod
    def host_beside(self, gathering: Gathering) -> Host:
        """The server's part in another sum of the same round."""

    @abstractmethod
    def public(self, gathering: Gathering) -> State:
        """The public state after a round."""

    @abstractmethod
    def closing(self, phase: str) -> str:
        """The phase whose reply carries the sum that was begun in `phase`."""
