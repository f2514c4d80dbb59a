"""SSGA: all clients send the same few entries, which they choose together, under masks that cancel.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
Algorithm 1, whose lines are numbered below, and eq. 3 to 9. Two things differ: the aggregate is the mean over clients,
not the sum (a factor in the learning rate), and the server's momentum (lines 17 and 18) is that of the optimiser that
receives the aggregate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError, check_counts
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.magnitudes import magnitude, told_maximum
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import exactly
from gradwire.schemes.selection import largest
from gradwire.schemes.sga import CODES, SGA
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
            From a server that keeps to the protocol and that no client sides with (`colluders=0`), it hides which other
            entries were chosen, but not how many entries had how many votes; see `secure.union`.
    """

    name: ClassVar[str] = "ssga"

    compression: float = 200.0
    mask: Literal["topk", "random"] = "topk"
    residual: bool = True
    union: Literal["open", "anonymous"] = "open"
    anonymity: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self.name, self, "compression", "anonymity")
        if self.anonymity > 1 and not self.votes:
            raise GradwireError(f"{self.name}: anonymity is {self.anonymity}; it needs union=anonymous and mask=topk")
        if self.anonymity > 1 and self.colluders != 0:
            wrong = "a client that sides with the server tells it all votes: it needs colluders=0"
            raise GradwireError(f"{self.name}: anonymity is {self.anonymity}; {wrong}")
        if self.dp is not None and self.mask == "topk":
            wrong = "the entries that clients choose tell of them; it needs mask=random"
            raise GradwireError(f"{self.name}: dp is {self.dp}; {wrong}")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A signing key, and R ← 0, flat."""
        zero = {"residual": torch.zeros(layout.size, dtype=layout.dtype)} if self.residual else {}
        return {**super().private_state(layout, secret), **zero}

    @property
    def feeds_back(self) -> bool:
        """With a residual."""
        return self.residual

    def kept_back(self, private: State, layout: Layout) -> Update:
        """R."""
        return layout.unflatten(private["residual"]) if self.residual else {}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Lines 5 to 14 of Algorithm 1."""
        member = yield from self.protocol.join(self.gathering(round), private, public)  # 2, and 11: fresh seeds
        summed, accumulated = self.accumulate(update, private, round.layout)  # 6 to 8
        chosen = self.choice(summed, round)  # 9
        # Of all entries those that are not finite are chosen first.
        if self.mask == "random" or not summed[chosen].isfinite().all():
            self.finite(summed, member.gathering, member.seat)
        reply: Tensors = {}
        if self.votes:
            reply, member = yield from self.vote(chosen, member, round)
        offer = self.offer(summed, chosen, reply, round)
        if offer:
            answer = yield Send("offer", offer)
            member, reply = member.heard("offer", answer), {**reply, **answer}
        union = self.entries(reply, round)  # 10
        self.refuse(union, chosen, round)
        maximum = self.maximum(reply, member.gathering, offer.get("maximum"), member.seat)
        values = summed[union]
        member = self.counted(member, values, self.finite(values, member.gathering, member.seat), maximum)
        left = {"residual": summed.index_fill_(0, union, 0)} if self.residual else {}  # 14
        state: State = {**member.state, **self.sent(accumulated, union), **left}
        total = yield from self.add(values, maximum, member, round, state)  # 12 and 13
        state = self.spending(replace(member, state=state), total, values, round).state
        aggregate = self.sparse(union, self.mean(total, maximum, round, len(union)), round)
        return Outcome(aggregate.update(round.layout), self.protocol.public(member.gathering), state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Lines 9 to 13: the union and R_max, then the sum."""
        server = self.protocol.server(self.gathering(round), public)
        uploads = yield None
        server, uploads = yield from server.open(uploads)
        reply: Tensors = {}
        if self.votes:
            uploads, reply = yield from self.count_votes(uploads, round, server.gathering)
            server = server.heard("union", reply)
        if self.asks:
            answer = self.answer(uploads, round, server.gathering)
            uploads = yield Send("offer", answer)
            server, reply = server.heard("offer", answer), {**reply, **answer}
        union, maximum = self.entries(reply, round), self.maximum(reply, server.gathering)
        total = yield from server.total(uploads, self.ring(round), self.width(len(union), round), "masked")
        yield Send(self.protocol.closing("masked"), total.tensors(), left_out=total.liars)
        aggregate = self.sparse(union, self.mean(total, maximum, round, len(union)), round)
        return Outcome(aggregate.update(round.layout), self.protocol.public(server.gathering), {}, total.liars)

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """As `SGA`; and offers, votes, and the sealed keys of the secret permutation.

        How many masked codes a union needs, only the server's half knows: it names who sends another number.
        """
        size, own = round.layout.size, phase.removeprefix(VOTE)
        if own == "offer":
            if self.asks_maximum:
                told_maximum(tensors, phase)
            due: dict[str, tuple[int, ...]] = {"maximum": ()} if self.asks_maximum else {}
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
            least, most = (self.width(each, round) if phase == own else each for each in (least, most))
            if phase == own and not (most if self.mask == "random" else least) <= count <= most:
                raise WireError(f"'masked' holds {count} codes; {least} to {most} were due")
            exactly(tensors, {"masked": (count,)}, CODES[8 if phase != own else self.ring(round).bits])
        else:
            super().check(own, tensors, round)

    @property
    def votes(self) -> bool:
        """Whether a secure sum finds the union."""
        return self.mask == "topk" and self.union == "anonymous"

    @property
    def asks(self) -> bool:
        """Whether clients tell anything in the clear."""
        return self.asks_maximum or self.anonymity > 1 or (self.mask == "topk" and not self.votes)

    def vote(self, chosen: Tensor, member: Member, round: Round) -> ClientHalf[tuple[dict[str, Tensor], Member]]:
        """A client's part in finding the union anonymously: what the server says of it, and the member who heard it."""
        size, gathering = round.layout.size, replace(member.gathering, prefix=VOTE)
        voter = yield from self.protocol.beside(member, gathering)
        if self.anonymity == 1:
            reply = yield from voter.contribute(mark(chosen, size), "masked")
            return dict(reply), member.heard("union", reply)
        permutation = yield from draw(voter, size)
        reply = yield from voter.contribute(permutation.ballot(chosen), "masked")
        places = heard(reply, round, gathering.where("masked", "server"))
        return told(permutation.entries(places), round), member.heard("union", reply)

    def count_votes(self, uploads: Uploads, round: Round, opened: Gathering) -> ServerPart[tuple[Uploads, Tensors]]:
        """The server's part in finding the union anonymously, in the course of the round that it has opened."""
        gathering = replace(opened, prefix=VOTE)
        server = self.protocol.server(gathering)
        server, uploads = yield from server.open(uploads)
        if self.anonymity > 1:
            uploads = yield pass_on(gathering, uploads)
        total = yield from server.total(uploads, MARKS, round.layout.size, "masked")
        reply = told(marked(total.codes, self.anonymity), round)
        uploads = yield Send(gathering.phase(self.protocol.closing("masked")), reply, left_out=total.liars)
        return uploads, reply

    def refuse(self, union: Tensor, chosen: Tensor, round: Round) -> None:
        """Raise WireError of a union that no choices of so many clients can have made, one's own among them.

        Of the marks of an anonymous union some cancel, one in 255 where several clients chose the same; of votes, those
        are passed over that too few have cast.
        """
        if not self.binding or self.mask == "random":
            return
        where, most = self.gathering(round).where("offer", "server"), self.share(round) * len(round.clients)
        if len(union) > most:
            raise WireError(f"{where}: the union has {len(union)} entries; the choices of all have {most} at most")
        nearest = torch.searchsorted(union, chosen).clamp_(max=max(0, len(union) - 1))
        lacking = int((union[nearest] != chosen).sum()) if len(union) else len(chosen)
        allowed = len(chosen) if self.anonymity > 1 else cancelled(len(chosen)) if self.votes else 0
        if lacking > allowed:
            raise WireError(f"{where}: the union lacks {lacking} of this client's {len(chosen)} entries")

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """As `SGA`, and what the union tells."""
        if self.mask == "random":
            return super().notes(private)
        told = "which entries each client chooses is told in the clear, and with them its labels"
        if self.votes:
            told = "the union of all clients' choices is told in the clear"
        if self.anonymity > 1:
            told = (
                f"entries that fewer than {self.anonymity} clients chose are hidden from a server that keeps to the "
                "protocol and that no client sides with; how many entries had how many votes is not"
            )
        return (*super().notes(private), f"{self.spec}: {told}")

    def accumulate(self, gradient: Update, private: State, layout: Layout) -> tuple[Tensor, State]:
        """R_t = R_{t−1} + ∇_t, of which entries are sent (line 6, eq. 3), and what else changes in the state."""
        return (layout.plus(gradient, private["residual"]) if self.residual else layout.flatten(gradient)), {}

    def sent(self, accumulated: State, union: Tensor) -> State:
        """What `accumulate` changed in the state, once these entries are sent."""
        return accumulated

    def choice(self, summed: Tensor, round: Round) -> Tensor:
        """The entries that a client chooses, ascending: its ⌊K/|C|⌋ largest; none where all are drawn."""
        return largest(summed, self.share(round)) if self.mask == "topk" else torch.empty(0, dtype=torch.int64)

    def offer(self, summed: Tensor, chosen: Tensor, voted: Tensors, round: Round) -> dict[str, Tensor]:
        """What a client tells in the clear, where needed: the places of its largest entries, its largest magnitude.

        Of entries that were voted for under the secret permutation, all clients tell the server the same.
        """
        offer = dict(voted) if self.anonymity > 1 else {}
        if self.mask == "topk" and not self.votes:
            offer["indices"] = indices.encode(chosen, round.layout.size)
            summed = summed[chosen]  # the largest of all is one of them
        if self.asks_maximum:
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
        return reply | (self.maxima(uploads, gathering) if self.asks_maximum else {})

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
        """The entries that all clients send, ascending, and R_max, as everybody reads the server's replies."""
        return self.entries(reply, round), self.maximum(reply, self.gathering(round))

    def entries(self, reply: Tensors, round: Round) -> Tensor:
        """The entries that all clients send, ascending, from the server's replies."""
        if self.mask == "topk":
            return heard(reply, round, self.gathering(round).where("offer", "server"))
        count = self.share(round) * len(round.clients)
        return torch.randperm(round.layout.size, generator=round.generator())[:count].sort().values

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
        chosen = self.chosen(observation)
        mean = self.mean(*self.seen(observation), observation.round, len(chosen))
        return self.sparse(chosen, mean, observation.round)

    def sparse(self, union: Tensor, mean: Tensor, round: Round) -> Sparse:
        """A mean on the union as a sparse vector."""
        return Sparse(union, mean.to(round.layout.dtype), round.layout.size)

    def brought(self, own: Own, observation: Observation) -> Tensor:
        """What a fellow client has accumulated, on the union."""
        return self.accumulate(own.update, own.private, observation.round.layout)[0][self.chosen(observation)]

    def chosen(self, observation: Observation) -> Tensor:
        """The union, as everybody sees it."""
        voted = observation.replies[VOTE + self.protocol.closing("masked")] if self.votes else {}
        return self.entries({**voted, **observation.replies.get("offer", {})}, observation.round)


def cancelled(marks: int, surely: float = 2**-20) -> int:
    """So many of a client's marks may cancel against others', but for a probability of `surely`: each one in 255."""
    from scipy.stats import binom  # type: ignore[import-untyped]

    return int(binom.isf(surely, marks, 1 / 255))


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
