"""SSGA: all clients send the same few entries, which they choose together, under masks that cancel.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
Algorithm 1, whose lines are numbered below, and eq. 3 to 9. Two things differ: the aggregate is the mean over clients,
not the sum (a factor in the learning rate), and the server's momentum (lines 17 and 18) is that of the optimiser that
receives the aggregate.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import check_positive, exactly
from gradwire.schemes.selection import largest
from gradwire.schemes.sga import CODES, SGA, magnitude, told_maximum
from gradwire.schemes.sparse import Sparse
from gradwire.secure.byte_tensors import part
from gradwire.secure.channels import TAG_BYTES
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.protocol import Member, ServerPart, Uploads
from gradwire.secure.union import MARKS, PERMUTATION, draw, mark, marked, pass_on
from gradwire.wire import ClientHalf, Own, Send, ServerHalf, Tensors, indices

VOTE = "union "
"""Before the names of the phases in which the union is found anonymously."""


@dataclass(frozen=True)
class SSGA(SGA):
    """Secure sparse gradient aggregation.

    Attributes:
        compression: N / K: all clients together send at most K = N / compression entries.
        mask: the union of every client's ⌊K/|C|⌋ largest entries ("topk"), or K public random entries ("random").
        residual: add what was not sent to the next update.
        union: clients tell their entries in the "open", or by a secure sum ("anonymous"), which costs a byte for each
            of the model's entries.
        anonymity: with the anonymous union, the least number of clients that must choose an entry for it to be sent.
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
        member = yield from self.protocol.join(self.gathering(round), private, public)  # 2, and 11: fresh seeds
        summed, accumulated = self.accumulate(update, private, round.layout)  # 6 to 8
        reply = (yield from self.vote(summed, member, round)) if self.votes else {}  # 9, anonymously
        offer = self.offer(summed, reply, round)
        reply = {**reply, **((yield Send("offer", offer)) if offer else {})}  # 9
        union, maximum = self.agreed(reply, round)  # 10
        values = summed[union]
        left = {"residual": summed.index_fill_(0, union, 0)} if self.residual else {}  # 14
        state = {**member.state, **accumulated, **left}
        total = yield from self.add(values, maximum, member, round, state)  # 12 and 13
        aggregate = self.sparse(union, self.mean(total, maximum, round), round)
        return Outcome(aggregate.update(round.layout), self.protocol.public(member.gathering), state)

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
        aggregate = self.sparse(union, self.mean(total, maximum, round), round)
        return Outcome(aggregate.update(round.layout), self.protocol.public(gathering), {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """As `SGA`; and offers, votes, and the sealed keys of the secret permutation.

        How many masked codes a union needs, only the server's half knows: it names who sends another number.
        """
        size, own = round.layout.size, phase.removeprefix(VOTE)
        if own == "offer":
            if self.max == "adaptive":
                told_maximum(tensors, phase)
            due: dict[str, tuple[int, ...]] = {"maximum": ()} if self.max == "adaptive" else {}
            if self.anonymity > 1:
                union = heard(tensors, round, phase)
                due |= {"indices": (indices.code_size(len(union), size),), "count": ()}
            elif self.mask == "topk" and not self.votes:
                due["indices"] = (indices.code_size(len(self.places(tensors, round, phase)), size),)
            exactly(tensors, due, {"maximum": round.layout.dtype, "indices": torch.uint8, "count": torch.int64})
        elif own == PERMUTATION and self.anonymity > 1:
            dealt = {"sealed": (len(round.clients) - 1, KEY_BYTES + TAG_BYTES)} if tensors else {}
            exactly(tensors, dealt, torch.uint8)
        elif own == "masked":
            count = size if phase != own else part(tensors, own, phase).numel()
            least = 0 if self.votes else self.share(round)
            most = self.share(round) * len(round.clients)
            if phase == own and not (most if self.mask == "random" else least) <= count <= most:
                raise WireError(f"'masked' holds {count} codes; {least} to {most} were due")
            exactly(tensors, {"masked": (count,)}, CODES[8 if phase != own else self.bits])
        else:
            super().check(own, tensors, round)

    @property
    def votes(self) -> bool:
        """Whether a secure sum finds the union."""
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
        """R_t = R_{t−1} + ∇_t, of which entries are sent (line 6, eq. 3), and what else changes in the state."""
        return (layout.plus(gradient, private["residual"]) if self.residual else layout.flatten(gradient)), {}

    def offer(self, summed: Tensor, voted: Tensors, round: Round) -> dict[str, Tensor]:
        """What a client tells in the clear, where needed: the places of its largest entries, its largest magnitude.

        Of entries that were voted for under the secret permutation, all clients tell the server the same.
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
        """The entries that were voted for under the secret permutation; WireError if clients tell different ones."""
        unions = {party: heard(told, round, gathering.where("offer", party)) for party, told in uploads.items()}
        first = next(iter(unions.values()))
        for party, union in unions.items():
            if not torch.equal(union, first):
                where = gathering.where("offer", party)
                raise WireError(f"{where}: finds other entries under the secret permutation than {next(iter(unions))}")
        return told(first, round)

    def places(self, offered: Tensors, round: Round, where: str) -> Tensor:
        """The ⌊K/|C|⌋ entries that a client has chosen, ascending; raises as `decoded`."""
        return decoded(offered, self.share(round), round, where)

    def agreed(self, reply: Tensors, round: Round) -> tuple[Tensor, float]:
        """The entries that all clients send, ascending, and R_max, from the server's reply to the offers."""
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
            wrong = f"K = {entries} of {size} entries, fewer than the {n} clients; it must be at most {size // n}"
            raise GradwireError(f"{self.name}: compression is {self.compression:g}, which leaves {wrong}")
        return entries // n

    def decode(self, observation: Observation) -> Update:
        """The mean on the union, zero elsewhere."""
        return self.observed(observation).update(observation.round.layout)

    def measure(self, observation: Observation) -> Measurement:
        """The mean on the union alone: of the other entries nothing is known."""
        return self.observed(observation).supports(observation.round.layout)

    def observed(self, observation: Observation) -> Sparse:
        """The mean that is seen, on the union."""
        mean = self.mean(*self.seen(observation), observation.round)
        return self.sparse(self.chosen(observation), mean, observation.round)

    def sparse(self, union: Tensor, mean: Tensor, round: Round) -> Sparse:
        """A mean on the union as a sparse vector."""
        return Sparse(union, mean.to(round.layout.dtype), round.layout.size)

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """What a fellow client has accumulated, on the union."""
        return self.accumulate(own.update, own.private, observation.round.layout)[0][self.chosen(observation)]

    def chosen(self, observation: Observation) -> Tensor:
        """The union, as everybody sees it."""
        voted = observation.replies[VOTE + self.protocol.closing("masked")] if self.votes else {}
        return self.agreed({**voted, **observation.replies.get("offer", {})}, observation.round)[0]


def told(union: Tensor, round: Round) -> dict[str, Tensor]:
    """The union as the server tells it."""
    return {"indices": indices.encode(union, round.layout.size), "count": torch.tensor(len(union))}


def heard(tensors: Tensors, round: Round, where: str) -> Tensor:
    """The union that `told` put on the wire; raises as `decoded`."""
    count = part(tensors, "count", where)
    if count.numel() != 1:
        raise WireError(f"{where}: count is {count.tolist()}; it must be one number")
    return decoded(tensors, int(count), round, where)


def decoded(tensors: Tensors, count: int, round: Round, where: str) -> Tensor:
    """So many of the model's entries, ascending, as a message holds them; WireError about `where` if it does not."""
    coded = part(tensors, "indices", where)
    try:
        return indices.decode(coded, count, round.layout.size)
    except WireError as error:
        raise WireError(f"{where}: {error}") from None
