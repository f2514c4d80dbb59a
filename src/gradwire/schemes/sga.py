"""SGA: every client sends its update as integers under pairwise masks; the server learns nothing but the sum.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
section II-B and eq. 4 to 6; K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine
learning", CCS 2017.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.schemes.distributed_dp import spent
from gradwire.schemes.halves import relayed
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.magnitudes import agreed_maximum, listed, magnitude, read_list, told_maximum
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import exactly
from gradwire.schemes.secure_terms import SecureTerms
from gradwire.secure.byte_tensors import places
from gradwire.secure.commitments import DIGEST_BYTES
from gradwire.secure.double_mask_server import SEALED_BYTES
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.keys import PUBLIC_BYTES, SIGNATURE_BYTES
from gradwire.secure.protocol import Member, ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import BITS
from gradwire.secure.shares import SECRET_BYTES
from gradwire.wire import ClientHalf, Own, Send, ServerHalf, Tensors

CODES = dict(zip(BITS, (torch.uint8, torch.uint16, torch.uint32), strict=True))
"""Bits of an element of Z_R → its dtype."""


@dataclass(frozen=True)
class SGA(SecureTerms):
    """Secure gradient aggregation: distributed SGD whose server sees the sum alone."""

    name: ClassVar[str] = "sga"

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

    def spending(self, member: Member, total: Total, values: Tensor, round: Round) -> Member:
        """The member whose state counts what a sum has told of it."""
        if not (noise := self.noises(round, len(values))):
            return member
        after = spent(member.state, noise, total.contributors, self.liars(len(round.clients)))
        return replace(member, state={**member.state, **after})

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

    def counted(self, member: Member, values: Tensor, largest: Tensor, maximum: float) -> Member:
        """The member whose state counts how many values have been clipped, and of how many."""
        clipped = int((values.abs() > maximum).sum()) if float(largest) > maximum and self.dp is None else 0
        before = member.state.get("clipped", torch.zeros(2, dtype=torch.int64))
        return replace(member, state={**member.state, "clipped": before + torch.tensor([clipped, len(values)])})

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
