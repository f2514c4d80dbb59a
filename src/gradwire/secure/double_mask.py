"""Double masks: the secure sum that outlives dropouts, in four phases.

K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017, figure 4; with
the sparse graph of Bell et al., CCS 2020.

    keys      each client publishes two signed keys: one for pairwise masks, one to seal what it sends its peers
    shares    it splits its own mask's seed and its pairwise key among its neighbours, sealed for each
    (masked)  it adds both kinds of masks to its codes: its own, and those it has with each neighbour
    unmask    of each neighbour it reveals one share: of the seed if that one's codes arrived, else of the key

So the server learns the own mask of a client that stayed, or the pairwise masks of one that did not; both together
would tell its codes. A holder reveals one of the two, and 2t > holders: even a server that tells each client another
story cannot gather t shares of both. Keys last one round, since a dropout's key is known afterwards.
"""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.secure import directory, keys, shares
from gradwire.secure.byte_tensors import by_place, part, places, read_by_place, to_bytes
from gradwire.secure.channels import TAG_BYTES, seal_share, unseal_share
from gradwire.secure.graph import STATED, Assumptions, neighbourhoods, sufficient
from gradwire.secure.identity import Gathering, State
from gradwire.secure.kdf import KEY_BYTES, derive, random_bytes
from gradwire.secure.masks import Codes, blend
from gradwire.secure.protocol import Member, SecureSum, ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import Ring
from gradwire.secure.shares import SECRET_BYTES
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Deal, Send, Tensors

SEALED_BYTES = 2 * SECRET_BYTES + TAG_BYTES


@dataclass(frozen=True)
class MaskGraph:
    """The public facts of a round before it begins.

    Attributes:
        neighbours: of each client, by place, ascending.
        needed: t, the shares that restore a secret.
        survivors: clients that must stay for the sum to be released.
    """

    neighbours: Sequence[tuple[int, ...]]
    needed: int
    survivors: int

    def holders(self, place: int) -> tuple[int, ...]:
        """The holders of a client's shares: its neighbours and itself. Their order numbers the shares."""
        return tuple(sorted((place, *self.neighbours[place])))

    def check_peers(self, peers: Sized, where: str) -> None:
        """Raise TooFewError if a client hears of so few neighbours that its secrets could not be restored."""
        if len(peers) + 1 < self.needed:
            wrong = f"hears of {len(peers)} neighbours; with fewer than {self.needed - 1} it does not go on"
            raise TooFewError(f"{where}: {wrong}")


class Commitments(NamedTuple):
    """What a client publishes: public keys for pairwise masks and to seal shares, and the digest of its mask's seed."""

    mask_key: bytes
    channel_key: bytes
    digest: bytes

    @classmethod
    def parse(cls, gathering: Gathering, content: bytes) -> Self:
        """The commitments that were put together as `content`."""
        width = keys.PUBLIC_BYTES[gathering.curve]
        return cls(content[:width], content[width : 2 * width], content[2 * width :])


def own_mask(gathering: Gathering, seed: bytes, place: int) -> tuple[bytes, bytes]:
    """The key of a client's own mask, and the digest by which the client commits itself to the mask's seed."""
    context = gathering.context(place)
    return derive(seed, "own mask", *context), derive(seed, "commitment", *context)


def pair_mask(gathering: Gathering, secret: bytes, peer: bytes, place: int, other: int) -> bytes:
    """The key of the mask that two clients share, from the secret of the one and the public key of the other."""
    shared = keys.agree(gathering.curve, secret, peer, gathering.where("shares", other))
    return derive(shared, "pair mask", *gathering.context(*sorted((place, other))))


@dataclass(frozen=True)
class DoubleMaskMember(Member):
    """A client's part in the one sum that its secrets of this round are good for.

    Attributes:
        own: the key of its own mask.
        pairs: the key of the mask with each neighbour that has dealt shares, by place.
        held: by place, the share of that client's seed and the share of its key that this client keeps.
        secrets: shared with each neighbour that has published keys, by place; they seal shares.
    """

    graph: MaskGraph = field(repr=False)
    own: bytes = field(repr=False)
    pairs: Mapping[int, bytes] = field(repr=False)
    held: Mapping[int, bytes] = field(repr=False)
    secrets: Mapping[int, bytes] = field(repr=False)
    spent: list[str] = field(default_factory=list, repr=False)

    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)), help to unmask the sum of those that stayed; return the server's reply.

        Raises:
            GradwireError: a second sum under the same masks; WireError: too few have stayed, or this client has not.
        """
        if self.spent:
            raise GradwireError(f"masks of this round have served {self.spent[0]!r}; they must not serve {phase!r} too")
        self.spent.append(phase)
        masked = codes.copy()
        blend(masked, [(self.own, 1), *((key, 1 if self.seat < i else -1) for i, key in self.pairs.items())])
        reply = yield Send(self.gathering.phase(phase), {"masked": torch.from_numpy(masked)})
        where, least = self.gathering.where(phase, self.seat), self.graph.survivors
        stayed = places(reply, where)
        if self.seat not in stayed:
            raise WireError(f"{where}: the server says that its codes did not arrive; it reveals no share")
        if len(stayed) < least:
            raise TooFewError(f"{where}: {len(stayed)} clients are left, threshold is {least}; it reveals no share")
        revealed = {i: two[:SECRET_BYTES] if i in stayed else two[SECRET_BYTES:] for i, two in self.held.items()}
        return (yield Send(self.gathering.phase("unmask"), by_place("shares", revealed, SECRET_BYTES)))

    def shared(self, place: int) -> bytes:
        """The secret that seals shares for a peer; not that of the mask key, which the server may learn."""
        if place not in self.secrets:
            pair = f"{self.gathering.party(self.seat)} shares no secret with {self.gathering.party(place)}"
            raise GradwireError(f"{pair}: not a neighbour, or it has dropped out")
        return self.secrets[place]


@dataclass(frozen=True)
class DoubleMaskServer(SumServer):
    """The server's part in one round's sum; `published` holds what clients that dealt shares have published."""

    graph: MaskGraph
    published: dict[int, Commitments] = field(default_factory=dict)

    def open(self, uploads: Uploads) -> ServerPart[Uploads]:
        """Phases keys and shares; return the uploads of the phase that follows."""
        gathering, neighbours = self.gathering, self.graph.neighbours
        width = 2 * keys.PUBLIC_BYTES[gathering.curve] + KEY_BYTES
        present = self._present(uploads, "keys")
        replies = {p: directory.pass_on(gathering, uploads, neighbours[i], width) for i, p in present.items()}
        sent = {i: to_bytes(part(uploads[p], "keys", gathering.where("keys", p))) for i, p in present.items()}
        uploads = yield Deal(gathering.phase("keys"), replies)
        present = self._present(uploads, "shares")
        self.published.update({place: Commitments.parse(gathering, sent[place]) for place in present})
        sealed = self._read(uploads, "shares", "sealed", SEALED_BYTES)
        replies = {}
        for place, party in present.items():
            dealt = {i: sealed[i][place] for i in neighbours[place] if place in sealed.get(i, {})}
            replies[party] = by_place("sealed", dealt, SEALED_BYTES)
        return (yield Deal(gathering.phase("shares"), replies))

    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of the codes that arrived in this phase, once enough of their senders have revealed their shares.

        WireError ends the round without a sum if too few clients are left or a share is wrong.
        """
        stayed = self._present(uploads, phase)
        codes = self.added(uploads, ring, count, phase)
        revealed = yield Send(self.gathering.phase(phase), {"places": torch.tensor(list(stayed), dtype=torch.int32)})
        found = self._read(revealed, "unmask", "shares", SECRET_BYTES)
        masks: list[tuple[bytes, int]] = []
        for place in sorted(self.published):
            secret, published = self._restore(place, found), self.published[place]
            if place in stayed:
                key, digest = own_mask(self.gathering, secret, place)
                self._check(place, digest == published.digest)
                masks.append((key, -1))
                continue
            secret = keys.secret_key(self.gathering.curve, secret)
            self._check(place, keys.public_key(self.gathering.curve, secret) == published.mask_key)
            for i in filter(stayed.__contains__, self.graph.neighbours[place]):
                pair = pair_mask(self.gathering, secret, self.published[i].mask_key, place, i)
                masks.append((pair, 1 if place < i else -1))
        blend(codes, masks)
        return Total(codes, len(stayed))

    def _present(self, uploads: Uploads, phase: str) -> dict[int, str]:
        """The clients that are still there, by place; TooFewError if they are not enough."""
        parties, least = self.gathering.parties, self.graph.survivors
        present = {place: party for place, party in enumerate(parties) if party in uploads}
        if len(present) < least:
            left = f"{len(present)} of {len(parties)} clients are left, threshold is {least}"
            raise TooFewError(f"{self.gathering.where(phase, 'server')}: {left}; the round ends without a sum")
        return present

    def _read(self, uploads: Uploads, phase: str, name: str, width: int) -> dict[int, dict[int, bytes]]:
        """What each client that is still there sends of or to each of several places."""
        return {
            place: read_by_place(uploads[party], name, width, self.gathering.where(phase, party))
            for place, party in self._present(uploads, phase).items()
        }

    def _restore(self, place: int, found: Mapping[int, Mapping[int, bytes]]) -> bytes:
        """The one secret of a client that was revealed."""
        holders = enumerate(self.graph.holders(place))
        parts = {number: found[i][place] for number, i in holders if i in found and place in found[i]}
        if len(parts) < self.graph.needed:
            wrong = f"{len(parts)} of its {self.graph.needed} shares needed are left; the round ends without a sum"
            raise TooFewError(f"{self.gathering.where('unmask', place)}: {wrong}")
        return shares.combine(parts, self.graph.needed)

    def _check(self, place: int, restored: bool) -> None:
        if not restored:
            wrong = "a share of its secret is wrong; the round ends without a sum"
            raise WireError(f"{self.gathering.where('unmask', place)}: {wrong}")


@dataclass(frozen=True)
class DoubleMask(SecureSum):
    """The secure sum with double masks.

    Attributes:
        threshold: clients that must stay to the end; more than half of them.
        sparse: share masks with a few neighbours, as many as `assumed` asks for, instead of with all clients.
    """

    threshold: int
    sparse: bool = False
    assumed: Assumptions = STATED

    def join(self, gathering: Gathering, private: State, public: State) -> ClientHalf[DoubleMaskMember]:
        """The client's part in a round, after phases keys and shares.

        WireError refuses signatures, keys or shares that are not those of the parties, or too few of them.
        """
        graph, seat, curve = self.graph(gathering), gathering.seat(private), gathering.curve
        seed, key_seed = random_bytes(SECRET_BYTES), random_bytes(SECRET_BYTES)
        secret, channel = keys.secret_key(curve, key_seed), keys.secret_key(curve, random_bytes(KEY_BYTES))
        own, digest = own_mask(gathering, seed, seat)
        content = b"".join(Commitments(keys.public_key(curve, secret), keys.public_key(curve, channel), digest))
        reply = yield Send(gathering.phase("keys"), directory.publish(gathering, private, content))
        contents = directory.read(gathering, private, reply, graph.neighbours[seat], len(content))
        published = {place: Commitments.parse(gathering, content) for place, content in contents.items()}
        graph.check_peers(published, gathering.where("keys", seat))

        secrets = {
            i: keys.agree(curve, channel, peer.channel_key, gathering.where("keys", i)) for i, peer in published.items()
        }
        holders = graph.holders(seat)
        halves = (shares.split(each, graph.needed, len(holders)) for each in (seed, key_seed))
        dealt = {holder: of_seed + of_key for holder, of_seed, of_key in zip(holders, *halves, strict=True)}
        sealed = {i: seal_share(gathering, secrets[i], dealt[i], seat, i) for i in published}
        reply = yield Send(gathering.phase("shares"), by_place("sealed", sealed, SEALED_BYTES))
        where = gathering.where("shares", seat)
        sealed = read_by_place(reply, "sealed", SEALED_BYTES, where)
        if not sealed.keys() <= published.keys():
            raise WireError(f"{where}: got shares of places {list(sealed)}; it knows no keys of some")
        held = {i: unseal_share(gathering, secrets[i], share, i, seat) for i, share in sealed.items()}
        pairs = {i: pair_mask(gathering, secret, published[i].mask_key, seat, i) for i in sealed}
        graph.check_peers(pairs, where)
        held = {seat: dealt[seat], **held}
        return DoubleMaskMember(gathering, seat, private, graph, own, pairs, held, secrets)

    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[DoubleMaskMember]:
        """The client's part in another sum of the same round: with other secrets, since the server learns these."""
        return (yield from self.join(gathering, member.state, {}))

    def server(self, gathering: Gathering, public: State | None = None) -> DoubleMaskServer:
        """The server's part in any sum of a round."""
        return DoubleMaskServer(gathering, self.graph(gathering))

    def closing(self, phase: str) -> str:
        """The phase in which shares are revealed."""
        return "unmask"

    def graph(self, gathering: Gathering) -> MaskGraph:
        """The graph of a round; GradwireError if the number of clients does not allow the threshold."""
        n = len(gathering.parties)
        if not n < 2 * self.threshold <= 2 * n:
            raise GradwireError(f"threshold is {self.threshold}; of {n} clients it must be {n // 2 + 1} to {n}")
        if not self.sparse:
            return MaskGraph(neighbourhoods(n, n - 1, torch.Generator()), self.threshold, self.threshold)
        degree = sufficient(n, self.assumed)
        public = generator("graph", gathering.seed, gathering.round, gathering.prefix)
        return MaskGraph(neighbourhoods(n, degree.neighbours, public), degree.threshold, self.threshold)
