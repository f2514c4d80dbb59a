"""Pairwise masks: the secure sum of the SSGA paper. It costs one phase a round, and needs every client to the end.

Each pair of clients agrees on a key once; a ratchet makes a fresh seed of it for every round. Client k adds the masks
it shares with the clients after it and subtracts those it shares with the clients before it (eq. 5), so that they
cancel in the sum (eq. 6).

    private state   chain   uint8 (|C|, 32)   the ratchet with each client, by place (its own row is unused)
                    turn    int64 ()          the round that the chain stands at
    public state    agreed  uint8             the clients that have agreed on keys
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.secure import directory, keys
from gradwire.secure.byte_tensors import rows, table, to_bytes, to_tensor
from gradwire.secure.identity import Gathering, State
from gradwire.secure.kdf import KEY_BYTES, derive, random_bytes, ratchet
from gradwire.secure.masks import Codes, blend
from gradwire.secure.protocol import Member, SecureSum, ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import Ring
from gradwire.wire import ClientHalf, Send, Tensors


@dataclass(frozen=True)
class PairwiseMember(Member):
    """A client's part in the sums of one round; `seeds` are this round's, with each peer, by place."""

    seeds: Mapping[int, bytes] = field(repr=False)

    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)) in a phase; return the server's reply. No two phases share masks."""
        masked, name = codes.copy(), self.gathering.phase(phase)
        said = () if self.gathering.digest is None else (self.gathering.digest,)
        keys = {i: derive(seed, "mask", name.encode(), *said) for i, seed in self.seeds.items()}
        blend(masked, [(key, 1 if self.seat < i else -1) for i, key in keys.items()])
        return (yield Send(name, {"masked": torch.from_numpy(masked)}))

    def shared(self, place: int) -> bytes:
        """This round's seed with a peer."""
        return self.seeds[place]


@dataclass(frozen=True)
class PairwiseServer(SumServer):
    """The server's part in the sums of one round."""

    agreed: bool

    def open(self, uploads: Uploads) -> ServerPart[tuple[Self, Uploads]]:
        """Pass public keys on, unless the clients have agreed on keys."""
        if self.agreed:
            return self, uploads
        self._need_all(uploads, "keys")
        everybody, width = range(len(self.gathering.parties)), keys.PUBLIC_BYTES[self.gathering.curve]
        sent = ((uploads[party], width, self.gathering.where("keys", party)) for party in self.gathering.parties)
        signed = dict(enumerate(directory.collect(*each) for each in sent))
        return self, (yield Send(self.gathering.phase("keys"), directory.pass_on(signed, everybody, width)))

    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of what the clients uploaded in this phase; no reply comes before it."""
        self._need_all(uploads, phase)
        codes, malformed = self.added(uploads, ring, count, phase)
        if malformed:
            raise WireError(next(iter(malformed.values())))
        yield from ()
        return Total(codes, len(uploads))

    def _need_all(self, uploads: Uploads, phase: str) -> None:
        if missing := [party for party in self.gathering.parties if party not in uploads]:
            wrong = "is missing, and pairwise masks cancel only if all clients send; no sum (threshold allows dropouts)"
            raise TooFewError(f"{self.gathering.where(phase, missing[0])}: {wrong}")


@dataclass(frozen=True)
class Pairwise(SecureSum):
    """The secure sum with pairwise masks only."""

    def join(self, gathering: Gathering, private: State, public: State) -> ClientHalf[PairwiseMember]:
        """The client's part in a round, after agreeing on keys where that has not been done; the ratchet moves on.

        GradwireError refuses a round that is over; WireError, keys that are not those of the parties.
        """
        seat = gathering.seat(private)
        me, n = gathering.parties[seat], len(gathering.parties)
        if not self._agreed(gathering, public):
            chains, turn = (yield from self._agree(gathering, private, seat)), gathering.round
        elif "chain" in private:
            stored = rows(private["chain"], n, KEY_BYTES, f"keys of {me}")
            chains, turn = {i: chain for i, chain in enumerate(stored) if i != seat}, int(private["turn"])
        else:
            raise GradwireError(f"{me} holds no keys of the clients that it has agreed with")
        if turn > gathering.round:
            wrong = f"masks of round {gathering.round} must not serve twice"
            raise GradwireError(f"{me} has taken part in round {turn - 1}; {wrong}")
        seeds: dict[int, bytes] = {}
        for _ in range(turn, gathering.round + 1):
            for place in chains:
                seeds[place], chains[place] = ratchet(chains[place])
        after = [chains.get(place, bytes(KEY_BYTES)) for place in range(n)]
        state = {**private, "chain": table(after, KEY_BYTES), "turn": torch.tensor(gathering.round + 1)}
        return PairwiseMember(gathering, seat, state, seeds)

    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[PairwiseMember]:
        """The client's part in another sum of the same round: the same seeds give other masks in other phases."""
        yield from ()
        assert isinstance(member, PairwiseMember)
        return replace(member, gathering=gathering)

    def server(self, gathering: Gathering, public: State | None = None) -> PairwiseServer:
        """The server's part in a round, or (None) in another sum of a round whose keys have been agreed on."""
        return PairwiseServer(gathering, public is None or self._agreed(gathering, public))

    def public(self, gathering: Gathering) -> dict[str, Tensor]:
        """The public state after a round."""
        return {"agreed": to_tensor("\n".join(gathering.parties).encode())}

    def _agreed(self, gathering: Gathering, public: State) -> bool:
        return "agreed" in public and to_bytes(public["agreed"]) == "\n".join(gathering.parties).encode()

    def _agree(self, gathering: Gathering, private: State, seat: int) -> ClientHalf[dict[int, bytes]]:
        """Line 2 of Algorithm 1: a common key s_{k,i} with each peer, by place. The agreement key is forgotten."""
        curve, everybody = gathering.curve, range(len(gathering.parties))
        secret = keys.secret_key(curve, random_bytes(KEY_BYTES))
        own = keys.public_key(curve, secret)
        reply = yield Send(gathering.phase("keys"), directory.publish(gathering, private, own))
        published, unsigned = directory.read(gathering, private, reply, everybody, len(own))
        if unsigned:
            raise WireError(next(iter(unsigned.values())))
        missing = [place for place in everybody if place not in published]
        if missing or published[seat] != own:
            where = gathering.where("keys", [*missing, seat][0])
            raise WireError(f"{where}: its key is not among those that the server passed on")
        chains = {}
        for place, peer in published.items():
            if place != seat:
                pair = sorted((seat, place))
                shared = keys.agree(curve, secret, peer, gathering.where("keys", place))
                chains[place] = derive(shared, "pair", *gathering.context(*pair), *(published[i] for i in pair))
        return chains
