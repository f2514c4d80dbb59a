"""Double masks: the secure sum that outlives dropouts, in four phases. This file is the client's side.

K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017, figure 4; with
the sparse graph of Bell et al., CCS 2020.

    keys      each client publishes two signed keys: one for pairwise masks, one to seal what it sends its peers
    shares    it splits its own mask's seed and its pairwise key among its neighbours, sealed for each
    (masked)  it adds both kinds of masks to its codes: its own, and those it has with each neighbour
    unmask    of each neighbour it reveals one share: of the seed if that one's codes arrived, else of the key

So the server learns the own mask of a client that stayed, or the pairwise masks of one that did not; with both it
would learn its codes. A holder reveals one or the other, and 2t > holders: not even a server that tells each client
another story can gather t shares of both. Keys last one round, since a dropout's key is known afterwards.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.secure import directory, keys, shares
from gradwire.secure.byte_tensors import part, places, rows, table
from gradwire.secure.channels import Channels
from gradwire.secure.double_mask_server import SEALED_BYTES, Commitments, DoubleMaskHost, MaskGraph
from gradwire.secure.entropy import random_bytes
from gradwire.secure.graph import STATED, Assumptions, neighbourhoods, sufficient
from gradwire.secure.identity import Gathering, State
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.masks import Codes, blend
from gradwire.secure.protocol import Member, SecureSum
from gradwire.secure.shares import SECRET_BYTES
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Send, Tensors


@dataclass(frozen=True)
class DoubleMaskMember(Member):
    """A client's part in the one sum that its secrets of this round are good for.

    Attributes:
        seed: of its own mask.
        pairs: the seed with each neighbour that has dealt shares, by place.
        held: by place, the share of that client's seed and the share of its key that this client keeps.
        channels: to the neighbours that have published keys.
    """

    plan: MaskGraph = field(repr=False)
    seed: bytes = field(repr=False)
    pairs: Mapping[int, bytes] = field(repr=False)
    held: Mapping[int, bytes] = field(repr=False)
    channels: Channels = field(repr=False)
    spent: list[str] = field(default_factory=list, repr=False)

    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)), help to unmask the sum of those that stayed; what the server makes of it.

        Raises:
            GradwireError: a second sum under the same masks; WireError: too few have stayed, or this client has not.
        """
        if self.spent:
            raise GradwireError(f"masks of this round have served {self.spent[0]!r}; they must not serve {phase!r} too")
        self.spent.append(phase)
        masked = codes.copy()
        blend(masked, [(self.seed, 1), *((key, 1 if self.seat < i else -1) for i, key in self.pairs.items())])
        reply = yield Send(self.gathering.phase(phase), {"masked": torch.from_numpy(masked)})
        stayed = self._stayed(reply, phase)
        revealed = [part[:SECRET_BYTES] if i in stayed else part[SECRET_BYTES:] for i, part in self.held.items()]
        owners = torch.tensor(list(self.held), dtype=torch.int32)
        return (yield Send(self.gathering.phase("unmask"), {"places": owners, "shares": table(revealed, SECRET_BYTES)}))

    def shared(self, place: int) -> bytes:
        """Derived from what this client's channel shares with a peer; not from the mask key, which may get known."""
        if place not in self.channels.secrets:
            me, other = self.gathering.parties[self.seat], self.gathering.parties[place]
            raise GradwireError(f"{me} shares no secret with {other}: not a neighbour, or it has dropped out")
        return self.channels.secrets[place]

    def _stayed(self, reply: Tensors, phase: str) -> set[int]:
        """The clients whose codes arrived, as the server says."""
        where = self.gathering.where(phase, self.gathering.parties[self.seat])
        stayed = set(places(reply, where))
        if self.seat not in stayed:
            raise WireError(f"{where}: the server says that its codes did not arrive; it reveals no share")
        if len(stayed) < self.plan.survivors:
            least = self.plan.survivors
            raise TooFewError(f"{where}: {len(stayed)} clients are left, threshold is {least}; it reveals no share")
        return stayed


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
        """A client's way into a round: phases keys and shares.

        Raises:
            WireError: signatures, keys or shares that are not those of the parties, or too few of them.
        """
        plan, seat, curve = self.plan(gathering), gathering.seat(private), gathering.curve
        seed, key_seed = random_bytes(SECRET_BYTES), random_bytes(SECRET_BYTES)
        secret, channel = keys.secret_key(curve, key_seed), keys.secret_key(curve, random_bytes(KEY_BYTES))
        own = Commitments.of(gathering, seat, seed, keys.public_key(curve, secret), keys.public_key(curve, channel))
        reply = yield Send(gathering.phase("keys"), directory.publish(gathering, private, own.content))
        peers = plan.neighbours[seat]
        published = {
            place: Commitments.parse(gathering, content)
            for place, content in directory.read(gathering, private, reply, peers, len(own.content)).items()
        }
        self._enough(gathering, plan, seat, "keys", len(published))
        channels = Channels.to(gathering, seat, channel, {i: peer.channel_key for i, peer in published.items()})
        dealt = self._split(plan, seat, seed, key_seed)
        sealed = [channels.seal(dealt[i], i) for i in published]
        receivers = torch.tensor(list(published), dtype=torch.int32)
        reply = yield Send(gathering.phase("shares"), {"places": receivers, "sealed": table(sealed, SEALED_BYTES)})
        boxes = self._boxes(gathering, seat, reply, published)
        held = {seat: dealt[seat], **{i: channels.unseal(box, i) for i, box in boxes.items()}}
        pairs = {i: plan.pair(gathering, secret, published[i].mask_key, seat, i) for i in boxes}
        self._enough(gathering, plan, seat, "shares", len(pairs))
        return DoubleMaskMember(gathering, seat, private, plan, plan.own(gathering, seed, seat), pairs, held, channels)

    def host(self, gathering: Gathering, public: State) -> DoubleMaskHost:
        """The server's part in a round."""
        return DoubleMaskHost(gathering, self.plan(gathering))

    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[DoubleMaskMember]:
        """The client's part in another sum of the same round: with secrets of its own, since these get known."""
        return (yield from self.join(gathering, member.state, {}))

    def host_beside(self, gathering: Gathering) -> DoubleMaskHost:
        """The server's part in another sum of a round."""
        return DoubleMaskHost(gathering, self.plan(gathering))

    def public(self, gathering: Gathering) -> dict[str, Tensor]:
        """The public state after a round: none, every round begins anew."""
        return {}

    def closing(self, phase: str) -> str:
        """The phase whose reply carries the sum that was begun in `phase`."""
        return "unmask"

    def plan(self, gathering: Gathering) -> MaskGraph:
        """Who is whose neighbour, and how many shares a secret takes.

        Raises:
            GradwireError: a threshold that the number of clients does not allow.
        """
        n = len(gathering.parties)
        if not n < 2 * self.threshold <= 2 * n:
            raise GradwireError(f"threshold is {self.threshold}; of {n} clients it must be {n // 2 + 1} to {n}")
        if not self.sparse:
            return MaskGraph(neighbourhoods(n, n - 1, torch.Generator()), self.threshold, self.threshold)
        degree = sufficient(n, self.assumed)
        public = generator("graph", gathering.seed, gathering.round, gathering.prefix)
        return MaskGraph(neighbourhoods(n, degree.neighbours, public), degree.threshold, self.threshold)

    def _enough(self, gathering: Gathering, plan: MaskGraph, seat: int, phase: str, peers: int) -> None:
        if peers + 1 < plan.needed:
            where = gathering.where(phase, gathering.parties[seat])
            raise TooFewError(
                f"{where}: hears of {peers} neighbours; with fewer than {plan.needed - 1} it does not go on"
            )

    def _split(self, plan: MaskGraph, seat: int, seed: bytes, key_seed: bytes) -> dict[int, bytes]:
        """Each holder's share of the seed and, behind it, of the key, by place."""
        holders = plan.holders(seat)
        halves = (shares.split(secret, plan.needed, len(holders)) for secret in (seed, key_seed))
        return {holder: first + second for holder, first, second in zip(holders, *halves, strict=True)}

    def _boxes(self, gathering: Gathering, seat: int, reply: Tensors, published: Container[int]) -> dict[int, bytes]:
        """The sealed shares that arrived, by sender."""
        where = gathering.where("shares", gathering.parties[seat])
        senders = places(reply, where)
        if not all(place in published for place in senders):
            raise WireError(f"{where}: got shares of places {senders}; it knows no keys of some")
        sealed = rows(part(reply, "sealed", where), len(senders), SEALED_BYTES, f"{where}: shares")
        return dict(zip(senders, sealed, strict=True))
