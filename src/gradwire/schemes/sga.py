"""SGA: every client sends its update as integers under pairwise masks; the server learns nothing but the sum.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
section II-B and eq. 4 to 6; K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine
learning", CCS 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes.halves import relayed
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import KeyExchange, Scheme, exactly
from gradwire.secure import identity
from gradwire.secure.byte_tensors import part, places
from gradwire.secure.double_mask import SEALED_BYTES, DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.keys import PUBLIC_BYTES, SIGNATURE_BYTES, Curve
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.protocol import Member, SecureSum, ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import BITS, Ring
from gradwire.secure.shares import SECRET_BYTES
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Need, Own, Send, ServerHalf, Tensors

CODES = dict(zip(BITS, (torch.uint8, torch.uint16, torch.uint32), strict=True))
"""Bits of an element of Z_R → its dtype."""


@dataclass(frozen=True)
class SGA(Scheme, KeyExchange):
    """Secure gradient aggregation: distributed SGD whose server sees the sum alone.

    Attributes:
        bits: of an integer on the wire: 32, 16 or 8.
        max: R_max, the largest magnitude that can be sent: "adaptive" (the largest of all clients, which they tell
            in the clear each round), or a fixed number to which values are clipped.
        rounding: to the nearest integer, or stochastically.
        threshold: so many clients must stay to the end, and the others may drop out; by default none may.
        neighbours: with a threshold, share masks with "all" clients or with a "few", as many as are needed if 5 % of
            them side with the server and 10 % drop out (secure.graph).
        curve: of the key agreement.
    """

    name: ClassVar[str] = "sga"
    sums_only = True

    bits: int = 32
    max: Literal["adaptive"] | float = "adaptive"
    rounding: Literal["nearest", "stochastic"] = "nearest"
    threshold: int | None = None
    neighbours: Literal["all", "few"] = "all"
    curve: Curve = "x25519"

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise GradwireError(f"{self.name}: bits is {self.bits}; it must be one of {', '.join(map(str, BITS))}")
        if self.max != "adaptive" and not 0 < self.max < inf:
            raise GradwireError(f"{self.name}: max is {self.max}; it must be adaptive or a positive number")
        if self.threshold is not None and self.threshold < 2:
            raise GradwireError(f"{self.name}: threshold is {self.threshold}; it must be at least 2")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A signing key."""
        return identity.fresh()

    @property
    def needs(self) -> frozenset[Need]:
        """A server; with a threshold, one that replies to each client on its own."""
        return frozenset({Need.SERVER} if self.threshold is None else {Need.SERVER, Need.REPLY_EACH})

    def public_keys(self, private: State) -> State:
        """The verification key."""
        return identity.published(private)

    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """Everybody's verification key."""
        return identity.with_known_keys(private, party, keys)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Tell the largest magnitude, send the update as masked integers, read the sum back."""
        member = yield from self.protocol.join(self.gathering(round), private, public)
        mean = yield from self.summed(round.layout.flatten(update), member, round, member.state)
        return Outcome(round.layout.unflatten(mean), self.protocol.public(member.gathering), member.state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the largest magnitude of all, then with the sum."""
        server = self.protocol.server(self.gathering(round), public)
        uploads = yield None
        mean, closing = yield from self.summing(uploads, server, round.layout, round)
        yield closing
        return Outcome(round.layout.unflatten(mean), self.protocol.public(server.gathering), {})

    def summed(self, values: Tensor, member: Member, round: Round, after: State | None) -> ClientHalf[Tensor]:
        """A client's part in one sum: the mean of all clients' `values`, shape (K,).

        Args:
            after: its private state as soon as its masked codes have arrived; None where more sums follow.
        """
        gathering, maximum = member.gathering, self.max
        if maximum == "adaptive":
            reply = yield Send(gathering.phase("offer"), {"maximum": magnitude(values)})
            maximum = told_maximum(reply, gathering.where("offer", "server"))
        total = yield from self.add(values, maximum, member, round, after)
        return self.mean(total, maximum, round).to(values.dtype)

    def summing(
        self, uploads: Uploads, server: SumServer, layout: Layout, round: Round
    ) -> ServerPart[tuple[Tensor, Send]]:
        """The server's part in one sum of vectors of a layout: their mean, and the reply that closes it."""
        uploads = yield from server.open(uploads)
        gathering, maximum = server.gathering, self.max
        if maximum == "adaptive":
            maximum = self.largest(uploads, gathering)
            uploads = yield Send(gathering.phase("offer"), {"maximum": torch.tensor(maximum)})
        total = yield from server.total(uploads, self.ring(round), layout.size, "masked")
        closing = Send(gathering.phase(self.protocol.closing("masked")), total.tensors())
        return self.mean(total, maximum, round).to(layout.dtype), closing

    def add(
        self, values: Tensor, maximum: float, member: Member, round: Round, after: State | None
    ) -> ClientHalf[Total]:
        """Send values, shape (K,), as masked codes, and read the sum; `after` as for `summed`."""
        codes = self.ring(round).encode(values, maximum, member.seat, self.randomness(round, member.seat))
        half = member.add(codes, self.ring(round), "masked")
        return (yield from relayed(half, lambda send: replace(send, settled=after)))

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """A magnitude, or as many elements of Z_R as the model has entries."""
        self.check_sum(phase, tensors, round, round.layout)

    def check_sum(self, phase: str, tensors: Tensors, round: Round, layout: Layout) -> None:
        """Refuse what no honest client sends in a phase of the sum of vectors of a layout."""
        if phase == "offer":
            exactly(tensors, {"maximum": ()}, layout.dtype)
            told_maximum(tensors, phase)
        elif phase == "masked":
            exactly(tensors, {"masked": (layout.size,)}, CODES[self.bits])
        else:
            self._check_keys(phase, tensors)

    def _check_keys(self, phase: str, tensors: Tensors) -> None:
        """Keys and signature; or rows of bytes about several places."""
        width = PUBLIC_BYTES[self.curve]
        if phase == "keys":
            bytes = width if self.threshold is None else 2 * width + KEY_BYTES
            exactly(tensors, {"keys": (bytes,), "signature": (SIGNATURE_BYTES,)}, torch.uint8)
        elif phase in ("shares", "unmask") and self.threshold is not None:
            name, bytes = ("sealed", SEALED_BYTES) if phase == "shares" else ("shares", SECRET_BYTES)
            about = len(places(tensors, phase))
            exactly(tensors, {"places": (about,), name: (about, bytes)}, {"places": torch.int32, name: torch.uint8})
        else:
            raise WireError(f"{self.name} has no phase {phase!r}")

    def decode(self, observation: Observation) -> Update:
        """The mean of all clients, which a naive adversary takes for the victim's update."""
        layout = observation.round.layout
        return layout.unflatten(self.mean(*self.seen(observation), observation.round).to(layout.dtype))

    def measure(self, observation: Observation) -> Measurement:
        """The mean of all clients, in every entry."""
        return dense(self.decode(observation))

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The reply itself: a fellow client takes what it masked out of the sum in `seen`."""
        return reply

    @property
    def protocol(self) -> SecureSum:
        """The secure sum."""
        return Pairwise() if self.threshold is None else DoubleMask(self.threshold, self.neighbours == "few")

    def gathering(self, round: Round, prefix: str = "") -> Gathering:
        """The clients and the round of a sum; `prefix` tells several sums of a round apart."""
        return Gathering(round.clients, round.index, round.seed, self.curve, prefix)

    def ring(self, round: Round) -> Ring:
        """Z_R, divided among the round's clients."""
        return Ring(self.bits, len(round.clients))

    def randomness(self, round: Round, seat: int) -> torch.Generator | None:
        """The random numbers of stochastic rounding. They are public: rounding is no protection."""
        return generator("rounding", round.seed, round.index, seat) if self.rounding == "stochastic" else None

    def largest(self, uploads: Uploads, gathering: Gathering) -> float:
        """R_max, the largest of the magnitudes that the clients tell; raises as `told_maximum`."""
        magnitudes = [told_maximum(tensors, gathering.where("offer", party)) for party, tensors in uploads.items()]
        return max(magnitudes, default=0.0)

    def mean(self, total: Total, maximum: float, round: Round) -> Tensor:
        """The mean of the real numbers behind a sum of codes, shape (K,)."""
        return self.ring(round).decode(total.codes, total.contributors, maximum) / total.contributors

    def seen(self, observation: Observation) -> tuple[Total, float]:
        """The sum and R_max, as everybody sees them, less the part of a fellow client that is the adversary."""
        gathering, own = self.gathering(observation.round), observation.own
        if own is None:
            return self.released(observation, gathering)
        return self.released(observation, gathering, self.brought(own, observation), own.private)

    def released(
        self, observation: Observation, gathering: Gathering, own: Tensor | None = None, private: State | None = None
    ) -> tuple[Total, float]:
        """A sum and its R_max from the server's replies, less the values `own` of the client with this state."""
        replies, ring = observation.replies, self.ring(observation.round)
        total = Total.of(replies[gathering.phase(self.protocol.closing("masked"))], ring)
        maximum = float(replies[gathering.phase("offer")]["maximum"]) if self.max == "adaptive" else self.max
        if own is not None and private is not None:
            seat = gathering.seat(private)
            total = total.without(ring.encode(own, maximum, seat, self.randomness(observation.round, seat)))
        return total, maximum

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """The values that a fellow client has masked, shape (K,)."""
        return observation.round.layout.flatten(own.update)


def told_maximum(tensors: Tensors, where: str) -> float:
    """The magnitude that a message tells; WireError about `where` if it is missing or is none."""
    told = part(tensors, "maximum", where)
    if told.numel() != 1 or not 0 <= float(told) < inf:
        raise WireError(f"{where}: maximum is {told.tolist()}; it must be a finite magnitude")
    return float(told)


def magnitude(values: Tensor) -> Tensor:
    """The largest magnitude, in one pass that allocates nothing; 0 of an empty vector."""
    if not len(values):
        return values.new_zeros(())
    low, high = values.aminmax()
    return torch.maximum(-low, high)
