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
from gradwire.schemes.accounting import Guarantee
from gradwire.schemes.distributed_dp import DistributedNoise, epsilon, spent
from gradwire.schemes.halves import relayed
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.magnitudes import agreed_maximum, listed, magnitude, read_list, told_maximum
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Accounting, KeyExchange, Scheme, exactly
from gradwire.secure import identity
from gradwire.secure.byte_tensors import places, to_tensor
from gradwire.secure.commitments import DIGEST_BYTES
from gradwire.secure.discrete_noise import Kind
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.double_mask_server import SEALED_BYTES
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.keys import PUBLIC_BYTES, SIGNATURE_BYTES, Curve
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.protocol import Member, SecureSum, ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import BITS, Ring
from gradwire.secure.shares import SECRET_BYTES
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Need, Own, Send, ServerHalf, Tensors
from gradwire.wire.view import LocalWork

CODES = dict(zip(BITS, (torch.uint8, torch.uint16, torch.uint32), strict=True))
"""Bits of an element of Z_R → its dtype."""


@dataclass(frozen=True)
class SGA(Scheme, KeyExchange, Accounting):
    """Secure gradient aggregation: distributed SGD whose server sees the sum alone.

    Attributes:
        bits: of an integer on the wire: 32, 16 or 8; more, where among so many clients they leave too few levels.
        max: R_max, the largest magnitude that can be sent: "adaptive" (agreed on each round, see `magnitudes`),
            "largest" (the paper's: the largest of all, as the server says), or a number. What is larger is clipped.
        rounding: to the "nearest" integer, or "stochastic"; "auto" is stochastic unless steps are as fine as float32's.
        threshold: so many clients must stay to the end, and the others may drop out; by default none may.
        colluders: c clients may side with the server, 2·threshold > clients + c. [default: a third of them]
        neighbours: with a threshold, share masks with "all" clients or with a "few", as many as are needed if the
            colluders side with the server and 10 % drop out (secure.graph).
        curve: of the key agreement.
        binding: masks depend on all that the server says, and clients believe nothing that they cannot check;
            without it, the papers' protocol, for servers that keep to it.
        dp: multiplier of the noise that all clients add together (`distributed_dp`): the sum's standard deviation is
            dp·clip. `max` and `rounding` do not apply then.
        clip: with dp, the largest norm of what a client sends.
        noise: with dp, its distribution.
        delta: with dp, δ of the (ε, δ) that is reported.
    """

    name: ClassVar[str] = "sga"
    sums_only = True

    bits: int = 32
    max: Literal["adaptive", "largest"] | float = "adaptive"
    rounding: Literal["auto", "nearest", "stochastic"] = "auto"
    threshold: int | None = None
    colluders: int | None = None
    neighbours: Literal["all", "few"] = "all"
    curve: Curve = "x25519"
    binding: bool = True
    dp: float | None = None
    clip: float = 1.0
    noise: Kind = "gaussian"
    delta: float = 1e-5

    def __post_init__(self) -> None:
        for name, most in (("dp", inf), ("clip", inf), ("delta", 1.0)):
            if (value := getattr(self, name)) is not None and not 0 < value < most:
                raise GradwireError(f"{self.name}: {name} is {value}; it must be positive and less than {most}")
        if self.bits not in BITS:
            raise GradwireError(f"{self.name}: bits is {self.bits}; it must be one of {', '.join(map(str, BITS))}")
        if not isinstance(self.max, str) and not 0 < self.max < inf:
            raise GradwireError(f"{self.name}: max is {self.max}; it must be adaptive, largest or a positive number")
        if self.threshold is not None and self.threshold < 2:
            raise GradwireError(f"{self.name}: threshold is {self.threshold}; it must be at least 2")
        if self.colluders is not None and self.colluders < 0:
            raise GradwireError(f"{self.name}: colluders is {self.colluders}; it must not be negative")

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

    def with_identity(self, private: State, identity: bytes) -> State:
        """The signing key."""
        return {**private, "identity": to_tensor(identity)}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Tell the largest magnitude, send the update as masked integers, read the sum back."""
        member = yield from self.protocol.join(self.gathering(round), private, public)
        mean, member = yield from self.summed(round.layout.flatten(update), member, round, settles=True)
        return Outcome(round.layout.unflatten(mean), self.protocol.public(member.gathering), member.state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with R_max or what it is made of, then with the sum."""
        server = self.protocol.server(self.gathering(round), public)
        uploads = yield None
        server, uploads = yield from server.open(uploads)
        mean, closing, server = yield from self.summing(uploads, server, round.layout, round)
        yield closing
        return Outcome(round.layout.unflatten(mean), self.protocol.public(server.gathering), {}, closing.left_out)

    def summed(
        self, values: Tensor, member: Member, round: Round, settles: bool = False
    ) -> ClientHalf[tuple[Tensor, Member]]:
        """A client's part in one sum: the mean of all clients' `values`, shape (K,), and the member after it.

        Args:
            settles: whether its private state is the next round's as soon as its masked codes have arrived.

        Raises:
            WireError: values that are not finite, before anything is masked.
        """
        largest = self.finite(values, member.gathering, member.seat)
        reply: Tensors = {}
        if self.asks_maximum:
            reply = yield Send(member.gathering.phase("offer"), {"maximum": largest})
        maximum = self.maximum(reply, member.gathering, largest, member.seat)
        member = self.counted(member.heard("offer", reply), values, largest, maximum)
        total = yield from self.add(values, maximum, member, round, member.state if settles else None)
        member = self.spending(member, total, values, round).heard(self.protocol.closing("masked"), total.tensors())
        return self.mean(total, maximum, round, len(values)).to(values.dtype), member

    def summing(
        self, uploads: Uploads, server: SumServer, layout: Layout, round: Round
    ) -> ServerPart[tuple[Tensor, Send, SumServer]]:
        """The server's part in one sum of vectors of a layout, when keys are agreed on.

        Returns:
            their mean, the reply that closes it, and the server after it.
        """
        gathering, reply = server.gathering, dict[str, Tensor]()
        if self.asks_maximum:
            reply = self.maxima(uploads, gathering)
            uploads = yield Send(gathering.phase("offer"), reply)
        maximum, server = self.maximum(reply, gathering), server.heard("offer", reply)
        total = yield from server.total(uploads, self.ring(round), self.width(layout.size, round), "masked")
        phase = self.protocol.closing("masked")
        closing = Send(gathering.phase(phase), total.tensors(), left_out=total.liars)
        mean = self.mean(total, maximum, round, layout.size).to(layout.dtype)
        return mean, closing, server.heard(phase, closing.tensors)

    def add(
        self, values: Tensor, maximum: float, member: Member, round: Round, after: State | None
    ) -> ClientHalf[Total]:
        """Send values, shape (K,), as masked codes, and read the sum.

        Args:
            after: its private state as soon as its masked codes have arrived; None where more sums follow.
        """
        if noise := self.noises(round, len(values)):
            codes = noise.encode(values, round)
        else:
            codes = self.ring(round).encode(values, maximum, member.seat, self.randomness(round, member.seat))
        half = member.add(codes, self.ring(round), "masked")
        return (yield from relayed(half, lambda send: replace(send, settled=after)))

    @property
    def asks_maximum(self) -> bool:
        """Whether clients tell their largest magnitudes."""
        return isinstance(self.max, str) and self.dp is None

    def noises(self, round: Round, size: int) -> DistributedNoise | None:
        """The noise of a sum of vectors of this size; None without."""
        if self.dp is None:
            return None
        return DistributedNoise(self.noise, self.dp, self.clip, self.bits, len(round.clients), size)

    def width(self, size: int, round: Round) -> int:
        """How many codes a vector of this size is sent as."""
        noise = self.noises(round, size)
        return noise.width if noise else size

    def spending(self, member: Member, total: Total, values: Tensor, round: Round) -> Member:
        """The member whose state counts what a sum has told of it."""
        if not (noise := self.noises(round, len(values))):
            return member
        after = spent(member.state, noise, total.contributors, self.liars(len(round.clients)))
        return replace(member, state={**member.state, **after})

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """With dp: of the client that has spent most, against the server and its colluders.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        found = epsilon(private, self.delta) if self.dp is not None else None
        if found is None:
            return ()
        sums = max(int(state["dp/sums"][0]) for state in private.values() if "dp/sums" in state)
        how = f"{sums} sums, if {self.liars(len(private))} clients tell the server their noise"
        return (Guarantee(found, self.delta, "zero-out", how, "RDP", "client"),)

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """With dp: the standard deviation of the noise in every entry of the mean."""
        return 0.0 if self.dp is None else self.dp * self.clip / len(round.clients)

    def finite(self, values: Tensor, gathering: Gathering, seat: int) -> Tensor:
        """The largest magnitude of what a client is to send; WireError if a value is not finite."""
        largest = magnitude(values)
        if not largest.isfinite():
            where, bad = gathering.where("offer", seat), int((~values.isfinite()).sum())
            raise WireError(f"{where}: {bad} of {len(values)} values are not finite; nothing is masked or sent")
        return largest

    def maxima(self, uploads: Uploads, gathering: Gathering) -> dict[str, Tensor]:
        """The server's reply to what the clients tell: all of it, or (as in the paper) the largest."""
        told = {
            i: told_maximum(uploads[party], gathering.where("offer", party))
            for i, party in enumerate(gathering.parties)
            if party in uploads
        }
        return listed(told) if self.max == "adaptive" else {"maximum": torch.tensor(max(told.values(), default=0.0))}

    def maximum(self, reply: Tensors, gathering: Gathering, own: Tensor | None = None, seat: int = 0) -> float:
        """R_max, from the server's reply; WireError if what this client has told is not in it."""
        where = gathering.where("offer", "server")
        if self.dp is not None:
            return self.clip
        if not isinstance(self.max, str):
            return self.max
        if self.max == "largest":
            return told_maximum(reply, where)
        told = read_list(reply, where)
        if own is not None and self.binding and told.get(seat) != float(own):
            raise WireError(f"{where}: says that {gathering.parties[seat]} told {told.get(seat)}; it told {float(own)}")
        return agreed_maximum(told, self.liars(len(gathering.parties)))

    def liars(self, clients: int) -> int:
        """c, of so many clients."""
        return clients // 3 if self.colluders is None else self.colluders

    def counted(self, member: Member, values: Tensor, largest: Tensor, maximum: float) -> Member:
        """The member whose state counts how many values have been clipped, and of how many."""
        clipped = int((values.abs() > maximum).sum()) if float(largest) > maximum and self.dp is None else 0
        before = member.state.get("clipped", torch.zeros(2, dtype=torch.int64))
        return replace(member, state={**member.state, "clipped": before + torch.tensor([clipped, len(values)])})

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What so many clients at so many bits really have, what is told in the clear, whose values were clipped."""
        if self.dp is not None:
            return self._notes_of_noise(private)
        ring, told = Ring.fitting(self.bits, max(2, len(private))), []
        more = "" if ring.bits == self.bits else f" (bits={self.bits} would leave too few levels)"
        levels = f"{len(private)} clients have {ring.ceiling + 1:,} levels each of {ring.bits} bits{more}"
        error = 1 / (ring.ceiling * max(1, len(private)) ** 0.5)
        told.append(f"{self.spec}: {levels}; the mean of their values is off by {error:.1g} R_max at most, rms")
        if self.asks_maximum:
            told.append(f"{self.spec}: each client's largest magnitude is told in the clear")
        for party, state in private.items():
            clipped, of = state["clipped"].tolist() if "clipped" in state else (0, 0)
            if clipped:
                told.append(f"{self.spec}: {party} had {clipped:,} of {of:,} values clipped ({clipped / of:.2%})")
        return tuple(told)

    def _notes_of_noise(self, private: Mapping[str, State]) -> tuple[str, ...]:
        sums = [state["dp/sums"].tolist() for state in private.values() if "dp/sums" in state]
        if not sums:
            return ()
        try:
            (found,) = self.guarantees(private)
        except GradwireError as error:
            return (f"{self.spec}: {error}",)
        n, fewest, c = len(private), min(least for _, least in sums), self.liars(len(private))
        left = max(0, fewest - c) / n
        fewer = f"at the fewest {fewest} of {n} clients stayed: the noise was {left**0.5:.0%} of what dp says, at least"
        return (f"{self.spec}: {found}", f"{self.spec}: {fewer}")

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """A magnitude, or as many elements of Z_R as the model has entries."""
        self.check_sum(phase, tensors, round, round.layout)

    def check_sum(self, phase: str, tensors: Tensors, round: Round, layout: Layout) -> None:
        """Refuse what no honest client sends in a phase of the sum of vectors of a layout."""
        if phase == "offer":
            exactly(tensors, {"maximum": ()}, layout.dtype)
            told_maximum(tensors, phase)
        elif phase == "masked":
            exactly(tensors, {"masked": (self.width(layout.size, round),)}, CODES[self.ring(round).bits])
        else:
            self._check_protocol(phase, tensors)

    def _check_protocol(self, phase: str, tensors: Tensors) -> None:
        """Keys and signature; or rows of bytes about several places."""
        width = PUBLIC_BYTES[self.curve]
        if phase == "keys":
            bytes = width if self.threshold is None else 2 * width + KEY_BYTES
            exactly(tensors, {"keys": (bytes,), "signature": (SIGNATURE_BYTES,)}, torch.uint8)
        elif phase == "survivors" and self.threshold is not None and self.binding:
            exactly(tensors, {"signature": (SIGNATURE_BYTES,)}, torch.uint8)
        elif phase in ("choose", "shares", "ready", "unmask") and self.threshold is not None:
            about = len(places(tensors, phase))
            tables: dict[str, tuple[int, ...]] = {"places": (about,)}
            if phase == "shares":
                tables |= {"sealed": (about, SEALED_BYTES), "digests": (about + 1, 2 * DIGEST_BYTES)}
            elif phase == "unmask":
                tables["shares"] = (about, SECRET_BYTES)
            exactly(tensors, tables, {name: torch.int32 if name == "places" else torch.uint8 for name in tables})
        else:
            raise WireError(f"{self.name} has no phase {phase!r}")

    def decode(self, observation: Observation) -> Update:
        """The mean of all clients, which a naive adversary takes for the victim's update."""
        layout = observation.round.layout
        mean = self.mean(*self.seen(observation), observation.round, layout.size)
        return layout.unflatten(mean.to(layout.dtype))

    def measure(self, observation: Observation) -> Measurement:
        """The mean of all clients, in every entry."""
        return dense(self.decode(observation))

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The reply itself: a fellow client takes what it masked out of the sum in `seen`."""
        return reply

    @property
    def protocol(self) -> SecureSum:
        """The secure sum."""
        if self.threshold is None:
            return Pairwise()
        colluders = self.colluders if self.binding else 0
        return DoubleMask(self.threshold, self.neighbours == "few", colluders=colluders)

    def gathering(self, round: Round, prefix: str = "") -> Gathering:
        """The clients and the round of a sum; `prefix` tells several sums of a round apart."""
        said = identity.digest(self.spec.encode(), round.digest) if self.binding else None
        return Gathering(round.clients, round.index, round.seed, self.curve, prefix, said)

    def ring(self, round: Round) -> Ring:
        """Z_R, divided among the round's clients; with dp, all of it for their sum."""
        if self.dp is not None:
            return Ring(self.bits, 1)
        return Ring.fitting(self.bits, len(round.clients))

    def randomness(self, round: Round, seat: int) -> torch.Generator | None:
        """The random numbers of stochastic rounding. They are public: rounding is no protection."""
        nearest = self.rounding == "nearest" or (self.rounding == "auto" and self.ring(round).fine)
        return None if nearest else generator("rounding", round.seed, round.index, seat)

    def mean(self, total: Total, maximum: float, round: Round, size: int) -> Tensor:
        """The mean of the real vectors (size,) behind a sum of codes, float64."""
        if noise := self.noises(round, size):
            return noise.decode(total.codes, total.contributors, round)
        return self.ring(round).decode(total.codes, total.contributors, maximum).div_(total.contributors)

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
        maximum = self.maximum(replies.get(gathering.phase("offer"), {}), gathering)
        if own is not None and private is not None:
            seat, noise = gathering.seat(private), self.noises(observation.round, len(own))
            if noise:  # its own noise, which it did not keep, stays in the sum
                codes = noise.encode(own, observation.round)
            else:
                codes = ring.encode(own, maximum, seat, self.randomness(observation.round, seat))
            total = total.without(codes)
        return total, maximum

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """The values that a fellow client has masked, shape (K,)."""
        return observation.round.layout.flatten(own.update)
