"""SGA: every client's update, as integers under pairwise masks; the server learns their sum and nothing else.

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
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import KeyExchange, Scheme
from gradwire.secure import identity
from gradwire.secure.byte_tensors import part
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.keys import Curve
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.protocol import SecureSum, Total, Uploads
from gradwire.secure.ring import BITS, Ring
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Need, Own, Send, ServerHalf, Tensors


@dataclass(frozen=True)
class SGA(Scheme, KeyExchange):
    """Secure gradient aggregation: distributed SGD whose server sees the sum alone.

    Attributes:
        bits: of an integer on the wire: 32, 16 or 8.
        max: R_max, the largest magnitude that can be sent: "adaptive" (the largest of all clients, told in the clear
            each round), or a fixed number beyond which values are clipped.
        rounding: to the nearest integer, or stochastically.
        threshold: so many clients must stay to the end (the others may drop out); by default all of them, and
            no shares need be dealt.
        neighbours: with a threshold, share masks with "all" clients or with a "few", as many as are needed if 5 % of
            them side with the server and 10 % drop out (secure.graph).
        curve: of the key agreement.
    """

    name: ClassVar[str] = "sga"

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
        """A server that sees sums; with a threshold it tells each client something of its own."""
        return frozenset({Need.SERVER} if self.threshold is None else {Need.SERVER, Need.REPLY_EACH})

    @property
    def key_exchange(self) -> KeyExchange:
        """Verification keys."""
        return self

    def public_keys(self, private: State) -> State:
        """The verification key to the signing key."""
        return identity.published(private)

    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """Everybody's verification key."""
        return identity.with_known_keys(private, party, keys)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Tell the largest magnitude, send the update as masked integers, read the sum back."""
        ring, gathering = self.ring(round), self.gathering(round)
        member = yield from self.protocol.join(gathering, private, public)
        values = round.layout.flatten(update)
        maximum = self.max
        if maximum == "adaptive":
            reply = yield Send("offer", {"maximum": magnitude(values)})
            maximum = told_maximum(reply, gathering.where("offer", "server"))
        codes = ring.encode(values, maximum, member.seat, self.randomness(round, member.seat))
        total = yield from settling(member.add(codes, ring, "masked"), member.state)
        return Outcome(self.aggregate(total, maximum, round), self.protocol.public(gathering), member.state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the largest magnitude of all, then with the sum."""
        gathering = self.gathering(round)
        server = self.protocol.server(gathering, public)
        uploads = yield None
        uploads = yield from server.open(uploads)
        maximum = self.max
        if maximum == "adaptive":
            maximum = self.largest(uploads, gathering)
            uploads = yield Send("offer", {"maximum": torch.tensor(maximum)})
        total = yield from server.total(uploads, self.ring(round), round.layout.size, "masked")
        yield Send(self.protocol.closing("masked"), total.tensors())
        return Outcome(self.aggregate(total, maximum, round), self.protocol.public(gathering), {})

    def decode(self, observation: Observation) -> Update:
        """The mean of all clients, which is all there is to see: the naive adversary takes it for the victim's."""
        total, maximum = self.seen(observation)
        return self.aggregate(total, maximum, observation.round)

    def measure(self, observation: Observation) -> Measurement:
        """The mean of all clients, in every entry."""
        return dense(self.decode(observation))

    @property
    def sums_only(self) -> bool:
        """That is what masks are for."""
        return True

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """A fellow client's own upload is masked as well: what it takes out of the sum is what it masked (`seen`)."""
        return reply

    @property
    def protocol(self) -> SecureSum:
        """How the sum is kept secret."""
        return Pairwise() if self.threshold is None else DoubleMask(self.threshold, self.neighbours == "few")

    def gathering(self, round: Round, prefix: str = "") -> Gathering:
        """Who adds up, in which round, and in which of its sums."""
        return Gathering(round.clients, round.index, round.seed, self.curve, prefix)

    def ring(self, round: Round) -> Ring:
        """Z_R, divided among the round's clients."""
        return Ring(self.bits, len(round.clients))

    def randomness(self, round: Round, seat: int) -> torch.Generator | None:
        """What stochastic rounding draws from. It need not be secret: rounding is no protection."""
        return generator("rounding", round.seed, round.index, seat) if self.rounding == "stochastic" else None

    def largest(self, uploads: Uploads, gathering: Gathering) -> float:
        """R_max, the largest of the magnitudes that the clients tell.

        Raises:
            WireError: one is missing, or is no magnitude.
        """
        magnitudes = [told_maximum(tensors, gathering.where("offer", party)) for party, tensors in uploads.items()]
        return max(magnitudes, default=0.0)

    def mean(self, total: Total, maximum: float, round: Round) -> Tensor:
        """The mean of the real numbers behind a sum of codes, shape (K,)."""
        return self.ring(round).decode(total.codes, total.contributors, maximum) / total.contributors

    def aggregate(self, total: Total, maximum: float, round: Round) -> Update:
        """The mean update behind a sum."""
        return round.layout.unflatten(self.mean(total, maximum, round))

    def seen(self, observation: Observation) -> tuple[Total, float]:
        """The sum and R_max, as everybody sees them; a fellow client's own part is taken out."""
        ring, round = self.ring(observation.round), observation.round
        total = Total.of(observation.replies[self.protocol.closing("masked")], ring)
        maximum = float(observation.replies["offer"]["maximum"]) if self.max == "adaptive" else self.max
        if observation.own is None:
            return total, maximum
        seat = round.clients.index(identity.name(observation.own.private))
        own = ring.encode(self.brought(observation.own, observation), maximum, seat, self.randomness(round, seat))
        return total.without(own), maximum

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """The values that a fellow client has masked, shape (K,)."""
        return observation.round.layout.flatten(own.update)


def settling(half: ClientHalf[Total], state: State) -> ClientHalf[Total]:
    """The half of a client that goes into its next round with this state as soon as its masked codes have arrived."""
    send = next(half)
    while True:
        reply = yield replace(send, settled=state)
        try:
            send = half.send(reply)
        except StopIteration as stop:
            return stop.value


def told_maximum(tensors: Tensors, where: str) -> float:
    """The magnitude that a message tells.

    Raises:
        WireError: it is missing, or is none, said of `where`.
    """
    told = part(tensors, "maximum", where)
    if told.numel() != 1 or not 0 <= float(told) < inf:
        raise WireError(f"{where}: maximum is {told.tolist()}; it must be a finite magnitude")
    return float(told)


def magnitude(values: Tensor) -> Tensor:
    """The largest magnitude, in one pass that allocates nothing."""
    low, high = values.aminmax()
    return torch.maximum(-low, high)
