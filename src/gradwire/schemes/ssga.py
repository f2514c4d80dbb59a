"""SSGA: all clients send the same few entries, chosen by all of them together, under masks that cancel.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
Algorithm 1 and eq. 3 to 9. Line numbers below are those of Algorithm 1. Two things differ from its letter: the
aggregate is the mean over clients, not the sum (a factor in the learning rate), and the server's momentum (lines 17
and 18) is that of the optimiser that receives the aggregate.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import check_positive
from gradwire.schemes.selection import largest
from gradwire.schemes.sga import SGA, magnitude, settling, told_maximum
from gradwire.schemes.sparse import Sparse, supports
from gradwire.secure.byte_tensors import part
from gradwire.secure.identity import Gathering
from gradwire.secure.protocol import Member, ServerPart, Uploads
from gradwire.secure.union import MARKS, draw, mark, marked, pass_on
from gradwire.wire import ClientHalf, Own, Send, ServerHalf, Tensors, indices

VOTE = "union "
"""Before the names of the phases in which the union is found anonymously."""


@dataclass(frozen=True)
class SSGA(SGA):
    """Secure sparse gradient aggregation.

    Attributes:
        compression: N / K: the union of what the clients choose has at most K = N / compression entries.
        mask: the union of every client's ⌊K/|C|⌋ largest entries ("topk"), or K entries at public random.
        residual: what was not sent is added to the next update.
        union: clients tell their entries in the "open", or the union is itself a secure sum ("anonymous"), at a byte
            for each of the model's entries.
        anonymity: with the anonymous union, entries that fewer clients than this chose are not sent, nor told.
    """

    name: ClassVar[str] = "ssga"

    compression: float = 200.0
    mask: Literal["topk", "random"] = "topk"
    residual: bool = True
    union: Literal["open", "anonymous"] = "open"
    anonymity: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.compression < float("inf"):
            raise GradwireError(f"{self.name}: compression is {self.compression}; it must be at least 1")
        check_positive(self.name, "anonymity", self.anonymity)
        if self.anonymity > 1 and not self.votes:
            raise GradwireError(f"{self.name}: anonymity is {self.anonymity}; it needs union=anonymous and mask=topk")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A signing key, and R ← 0, flat."""
        zero = {"residual": torch.zeros(layout.size, dtype=layout.dtype)} if self.residual else {}
        return {**super().private_state(layout, secret), **zero}

    @property
    def feeds_back(self) -> bool:
        """With a residual."""
        return self.residual

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Lines 5 to 14 of Algorithm 1."""
        ring, gathering = self.ring(round), self.gathering(round)
        member = yield from self.protocol.join(gathering, private, public)  # 2, and 11: fresh seeds
        summed, accumulated = self.accumulate(update, private, round.layout)  # 6 to 8
        reply = (yield from self.vote(summed, member, round)) if self.votes else {}  # 9, anonymously
        offer = self.offer(summed, reply, round)
        reply = {**reply, **((yield Send("offer", offer)) if offer else {})}  # 9
        union, maximum = self.agreed(reply, round)  # 10
        codes = ring.encode(summed[union], maximum, member.seat, self.randomness(round, member.seat))
        kept = {"residual": summed.index_fill_(0, union, 0)} if self.residual else {}  # 14
        state = {**member.state, **accumulated, **kept}
        total = yield from settling(member.add(codes, ring, "masked"), state)  # 12 and 13
        aggregate = Sparse(union, self.mean(total, maximum, round), round.layout.size)
        return Outcome(aggregate.update(round.layout), self.protocol.public(gathering), state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Lines 9 to 13: the union and R_max, then the sum."""
        gathering = self.gathering(round)
        server = self.protocol.server(gathering, public)
        uploads = yield None
        uploads = yield from server.open(uploads)
        reply: Tensors = {}
        if self.votes:
            uploads, reply = yield from self.count_votes(uploads, round)
        if self.asks:
            answer = self.answer(uploads, round, gathering)
            uploads = yield Send("offer", answer)
            reply = {**reply, **answer}
        union, maximum = self.agreed(reply, round)
        total = yield from server.total(uploads, self.ring(round), len(union), "masked")
        yield Send(self.protocol.closing("masked"), total.tensors())
        aggregate = Sparse(union, self.mean(total, maximum, round), round.layout.size)
        return Outcome(aggregate.update(round.layout), self.protocol.public(gathering), {})

    @property
    def votes(self) -> bool:
        """Whether the union is found by a secure sum."""
        return self.mask == "topk" and self.union == "anonymous"

    @property
    def asks(self) -> bool:
        """Whether clients tell anything in the clear."""
        return self.max == "adaptive" or self.anonymity > 1 or (self.mask == "topk" and not self.votes)

    def vote(self, summed: Tensor, member: Member, round: Round) -> ClientHalf[Tensors]:
        """A client's part in finding the union anonymously."""
        size, chosen = round.layout.size, largest(summed, self.share(round))
        voter = yield from self.protocol.beside(member, self.gathering(round, VOTE))
        if self.anonymity == 1:
            return (yield from voter.contribute(mark(chosen, size), "masked"))
        permutation = yield from draw(voter, size)
        reply = yield from voter.contribute(permutation.ballot(chosen), "masked")
        return told(permutation.entries(heard(reply, round, voter.gathering.where("masked", "server"))), round)

    def count_votes(self, uploads: Uploads, round: Round) -> ServerPart[tuple[Uploads, Tensors]]:
        """The server's part in finding the union anonymously."""
        gathering = self.gathering(round, VOTE)
        server = self.protocol.server(gathering)
        uploads = yield from server.open(uploads)
        if self.anonymity > 1:
            uploads = yield pass_on(gathering, uploads)
        total = yield from server.total(uploads, MARKS, round.layout.size, "masked")
        reply = told(marked(total.codes, self.anonymity), round)
        uploads = yield Send(gathering.phase(self.protocol.closing("masked")), reply)
        return uploads, reply

    def accumulate(self, gradient: Update, private: State, layout: Layout) -> tuple[Tensor, State]:
        """What is to be sent some day, R_t = R_{t−1} + ∇_t (line 6, eq. 3), and what changes beside it in the state."""
        return (layout.plus(gradient, private["residual"]) if self.residual else layout.flatten(gradient)), {}

    def offer(self, summed: Tensor, voted: Tensors, round: Round) -> dict[str, Tensor]:
        """What a client tells in the clear: its largest entries' places and its largest magnitude, where needed.

        Entries found under a secret permutation, which only the clients know, all of them tell the server alike.
        """
        offer = dict(voted) if self.anonymity > 1 else {}
        if self.mask == "topk" and not self.votes:
            chosen = largest(summed, self.share(round))
            offer["indices"] = indices.encode(chosen, round.layout.size)
            summed = summed[chosen]  # the largest of all is one of them
        if self.max == "adaptive":
            offer["maximum"] = magnitude(summed)
        return offer

    def answer(self, uploads: Uploads, round: Round, gathering: Gathering) -> dict[str, Tensor]:
        """What the server makes of the offers: the union I = ∪ i_k, and R_max."""
        reply = {}
        if self.mask == "topk" and not self.votes:
            chosen = [self.places(tensors, round, gathering.where("offer", p)) for p, tensors in uploads.items()]
            reply = told(torch.cat(chosen).unique(), round)
        if self.anonymity > 1:
            reply = self.unpermuted(uploads, round, gathering)
        if self.max == "adaptive":
            reply["maximum"] = torch.tensor(self.largest(uploads, gathering))
        return reply

    def unpermuted(self, uploads: Uploads, round: Round, gathering: Gathering) -> dict[str, Tensor]:
        """The entries that all clients say were found under the secret permutation.

        Raises:
            WireError: one of them says otherwise.
        """
        unions = {party: heard(told, round, gathering.where("offer", party)) for party, told in uploads.items()}
        first = next(iter(unions.values()))
        for party, union in unions.items():
            if not torch.equal(union, first):
                where = gathering.where("offer", party)
                raise WireError(f"{where}: finds other entries under the secret permutation than {next(iter(unions))}")
        return told(first, round)

    def places(self, offered: Tensors, round: Round, where: str) -> Tensor:
        """The entries that a client has chosen, ascending.

        Raises:
            WireError: they are missing, or not just ⌊K/|C|⌋ of the model's entries.
        """
        return decoded(offered, self.share(round), round, where)

    def agreed(self, reply: Tensors, round: Round) -> tuple[Tensor, float]:
        """The entries that all clients send, ascending, and R_max: as the server's reply to the offers says."""
        where = self.gathering(round).where("offer", "server")
        maximum = told_maximum(reply, where) if self.max == "adaptive" else self.max
        size = round.layout.size
        if self.mask == "topk":
            return heard(reply, round, where), maximum
        count = self.share(round) * len(round.clients)
        return torch.randperm(size, generator=round.generator())[:count].sort().values, maximum

    def share(self, round: Round) -> int:
        """⌊K/|C|⌋, the entries that each client may choose."""
        n, entries = len(round.clients), int(round.layout.size / self.compression)
        if entries < n:
            size = round.layout.size
            wrong = (
                f"leaves K = {entries} of {size} entries, fewer than the {n} clients; it must be at most {size // n}"
            )
            raise GradwireError(f"{self.name}: compression is {self.compression:g}, which {wrong}")
        return entries // n

    def decode(self, observation: Observation) -> Update:
        """The mean on the union, zero elsewhere."""
        return self.observed(observation).update(observation.round.layout)

    def measure(self, observation: Observation) -> Measurement:
        """The mean on the union alone: of the other entries nothing is known."""
        return supports(self.observed(observation), observation.round.layout)

    def observed(self, observation: Observation) -> Sparse:
        """The mean that is seen, on the union."""
        total, maximum = self.seen(observation)
        return Sparse(
            self.chosen(observation), self.mean(total, maximum, observation.round), observation.round.layout.size
        )

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """What a fellow client has summed up, on the union."""
        return self.accumulate(own.update, own.private, observation.round.layout)[0][self.chosen(observation)]

    def chosen(self, observation: Observation) -> Tensor:
        """The union, as everybody sees it."""
        voted = observation.replies[VOTE + self.protocol.closing("masked")] if self.votes else {}
        return self.agreed({**voted, **observation.replies.get("offer", {})}, observation.round)[0]


def told(union: Tensor, round: Round) -> dict[str, Tensor]:
    """The union as the server tells it."""
    return {"indices": indices.encode(union, round.layout.size), "count": torch.tensor(len(union))}


def heard(tensors: Tensors, round: Round, where: str) -> Tensor:
    """The union that `told` put on the wire.

    Raises:
        WireError: it is missing, or malformed; said of `where`.
    """
    count = part(tensors, "count", where)
    if count.numel() != 1:
        raise WireError(f"{where}: count is {count.tolist()}; it must be one number")
    return decoded(tensors, int(count), round, where)


def decoded(tensors: Tensors, count: int, round: Round, where: str) -> Tensor:
    """So many of the model's entries, ascending, as a message holds them.

    Raises:
        WireError: they are missing, or another number; said of `where`.
    """
    coded = part(tensors, "indices", where)
    try:
        return indices.decode(coded, count, round.layout.size)
    except WireError as error:
        raise WireError(f"{where}: {error}") from None
