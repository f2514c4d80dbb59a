"""Double masks: the secure sum that outlives dropouts, clients that lie, and a server that does.

K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017, figure 4 with its
consistency check against active adversaries; with the sparse graph of Bell et al., CCS 2020, malicious variant.

    keys       each client publishes two signed keys: one for pairwise masks, one to seal what it sends its peers
    choose     (sparse graphs) keys being out, each draws by itself to whom it will deal shares
    shares     it splits its own mask's seed and its pairwise key among those, sealed, with digests of the shares
    ready      it says whose shares are what the digests say; the server says who goes on
    (masked)   it adds both kinds of masks to its codes: its own, and those it has with each peer that goes on
    survivors  (bound) it signs the list of those whose codes arrived; enough others must have signed the same
    unmask     of each dealer it reveals one share: of the seed if that one's codes arrived, else of the key

So the server learns the own mask of a client that stayed, or the pairwise masks of one that did not; both together
would tell its codes. A holder reveals one of the two, and 2t > holders + colluders among them: even a server that
tells each client another story cannot gather t shares of both. Keys last one round, since a dropout's is told then.
"""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.secure import directory, keys, shares
from gradwire.secure.byte_tensors import by_place, part, places, read_by_place, rows, table, to_bytes, to_tensor
from gradwire.secure.channels import seal_share, unseal_share
from gradwire.secure.commitments import (
    DIGEST_BYTES,
    Commitments,
    Rules,
    own_mask,
    pair_mask,
    pair_secret,
    seed_digest,
    share_digests,
    survivors_statement,
)
from gradwire.secure.double_mask_server import SEALED_BYTES, DoubleMaskServer
from gradwire.secure.graph import STATED, Assumptions
from gradwire.secure.identity import Gathering, State, known_key
from gradwire.secure.kdf import KEY_BYTES, random_bytes
from gradwire.secure.masks import Codes, blend, expand
from gradwire.secure.protocol import Member, SecureSum
from gradwire.secure.shares import SECRET_BYTES
from gradwire.wire import ClientHalf, Send, Tensors


@dataclass(frozen=True)
class DoubleMaskMember(Member):
    """A client's part in the one sum that its secrets of this round are good for.

    Attributes:
        seed: of its own mask.
        pairs: the secret of the masks with each peer that goes on, by place.
        held: by place, the share of that client's seed and the share of its key that this client keeps.
        secrets: shared with each peer that has published keys, by place; they seal shares.
        chosen: the places to which it has dealt shares.
    """

    rules: Rules = field(repr=False)
    seed: bytes = field(repr=False)
    pairs: Mapping[int, bytes] = field(repr=False)
    held: Mapping[int, bytes] = field(repr=False)
    secrets: Mapping[int, bytes] = field(repr=False)
    chosen: frozenset[int] = field(repr=False)
    spent: list[str] = field(default_factory=list, repr=False)

    def contribute(self, codes: Codes, phase: str) -> ClientHalf[Tensors]:
        """Send masked codes (shape (K,)), help to unmask the sum of those that stayed; return the server's reply.

        Raises:
            GradwireError: a second sum under the same masks; WireError: too few have stayed, or this client has not,
                or too few have been told the same.
        """
        if self.spent:
            raise GradwireError(f"masks of this round have served {self.spent[0]!r}; they must not serve {phase!r} too")
        self.spent.append(phase)
        gathering, masked = self.gathering, codes.copy()
        pairs = ((pair_mask(gathering, s, self.seat, i), 1 if self.seat < i else -1) for i, s in self.pairs.items())
        blend(masked, [(own_mask(gathering, self.seed, self.seat), 1), *pairs])
        reply = yield Send(gathering.phase(phase), {"masked": torch.from_numpy(masked)})
        where, least = gathering.where(phase, self.seat), self.rules.survivors
        stayed = places(reply, where)
        if self.seat not in stayed:
            raise WireError(f"{where}: the server says that its codes did not arrive; it reveals no share")
        if len(stayed) < least:
            raise TooFewError(f"{where}: {len(stayed)} clients are left, threshold is {least}; it reveals no share")
        if gathering.digest is not None:
            yield from self._agree(tuple(stayed))
        revealed = {i: two[:SECRET_BYTES] if i in stayed else two[SECRET_BYTES:] for i, two in self.held.items()}
        return (yield Send(gathering.phase("unmask"), by_place("shares", revealed, SECRET_BYTES)))

    def _agree(self, stayed: tuple[int, ...]) -> ClientHalf[None]:
        """Sign what was said; TooFewError unless enough of those who hold this client's shares have signed the same."""
        gathering, where = self.gathering, self.gathering.where("survivors", self.seat)
        statement = survivors_statement(gathering, stayed)
        mine = to_tensor(keys.sign(to_bytes(self.state["identity"]), statement))
        reply = yield Send(gathering.phase("survivors"), {"signature": mine})
        signed = read_by_place(reply, "signatures", keys.SIGNATURE_BYTES, where)
        voters = self.chosen & signed.keys() & set(stayed)
        known = {i: known_key(self.state, gathering.parties[i]) for i in sorted(voters)}
        agreeing = 1 + sum(keys.verify(key, signed[i], statement) for i, key in known.items())
        if agreeing < self.rules.needed:
            wrong = f"{agreeing} clients have signed what this one was told, {self.rules.needed} must; no share"
            raise TooFewError(f"{where}: {wrong} is revealed")

    def shared(self, place: int) -> bytes:
        """The secret that seals shares for a peer; not that of the mask key, which the server may learn."""
        if place not in self.secrets:
            pair = f"{self.gathering.party(self.seat)} shares no secret with {self.gathering.party(place)}"
            raise GradwireError(f"{pair}: not a neighbour, or it has dropped out")
        return self.secrets[place]


@dataclass(frozen=True)
class DoubleMask(SecureSum):
    """The secure sum with double masks.

    Attributes:
        threshold: clients that must stay to the end; more than half of them and the colluders.
        sparse: share masks with a few, as many as `assumed` asks for, instead of with all clients.
        colluders: c, how many clients may side with the server; None: a third of them.
    """

    threshold: int
    sparse: bool = False
    assumed: Assumptions = STATED
    colluders: int | None = None

    def join(self, gathering: Gathering, private: State, public: State) -> ClientHalf[DoubleMaskMember]:
        """The client's part in a round, up to the masked codes.

        WireError refuses keys or shares of too few of the parties.
        """
        rules, seat, curve = self.rules(gathering), gathering.seat(private), gathering.curve
        seed, key_seed = random_bytes(SECRET_BYTES), random_bytes(SECRET_BYTES)
        secret, channel = keys.secret_key(curve, key_seed), keys.secret_key(curve, random_bytes(KEY_BYTES))
        digest = seed_digest(gathering, seed, seat)
        content = b"".join(Commitments(keys.public_key(curve, secret), keys.public_key(curve, channel), digest))
        reply = yield Send(gathering.phase("keys"), directory.publish(gathering, private, content))
        chosen = rules.others(seat)
        if not rules.complete:
            chosen = _drawn(chosen, rules.chosen)
            reply = yield Send(gathering.phase("choose"), {"places": torch.tensor(chosen, dtype=torch.int32)})
        contents, wrong = directory.read(gathering, private, reply, rules.others(seat), len(content))
        secrets: dict[int, bytes] = {}
        pairs: dict[int, bytes] = {}
        for i, text in contents.items():
            peer = Commitments.parse(gathering, text)
            try:
                agreed = keys.agree(curve, channel, peer.channel_key, gathering.where("keys", i))
                pairs[i] = pair_secret(gathering, secret, peer.mask_key, i)
                secrets[i] = agreed
            except WireError as error:  # signed or not, these are no keys: nothing is shared with their owner
                wrong[i] = str(error)
        mine = [i for i in chosen if i in pairs]
        _enough(mine, rules, gathering.where("keys", seat), wrong)

        holders = sorted((seat, *chosen))
        dealt = dict(zip(holders, shares.split(seed + key_seed, rules.needed, rules.holders), strict=True))
        sealed = {i: seal_share(gathering, secrets[i], dealt[i], seat, i) for i in mine}
        digests = [share_digests(gathering, dealt[i], seat, i) for i in (*mine, seat)]
        sent = {**by_place("sealed", sealed, SEALED_BYTES), "digests": table(digests, 2 * DIGEST_BYTES)}
        reply = yield Send(gathering.phase("shares"), sent)
        held = {seat: dealt[seat], **self._opened(gathering, seat, secrets, reply)}
        accepted = torch.tensor(sorted(held), dtype=torch.int32)
        reply = yield Send(gathering.phase("ready"), {"places": accepted})
        where = gathering.where("ready", seat)
        going = set(places(reply, where))
        if seat not in going or len(going) < rules.survivors:
            raise TooFewError(
                f"{where}: {len(going)} clients are left, threshold is {rules.survivors}, or it is not one"
            )
        kept = {i: pairs[i] for i in sorted(going) if i in pairs}
        chosen_now = frozenset(mine) & going
        _enough(chosen_now, rules, where, {})
        held = {i: both for i, both in held.items() if i in going}
        gathering = gathering.heard("ready", reply)
        return DoubleMaskMember(gathering, seat, private, rules, seed, kept, held, secrets, chosen_now)

    def _opened(
        self, gathering: Gathering, seat: int, secrets: Mapping[int, bytes], reply: Tensors
    ) -> dict[int, bytes]:
        """The shares that were dealt to this client and are what their digests say, by place."""
        where = gathering.where("shares", seat)
        sealed = read_by_place(reply, "sealed", SEALED_BYTES, where)
        told = rows(part(reply, "digests", where), len(sealed), 2 * DIGEST_BYTES, f"{where}: digests")
        found = {}
        for (i, text), digests in zip(sealed.items(), told, strict=True):
            if i not in secrets:
                continue
            try:
                both = unseal_share(gathering, secrets[i], text, i, seat)
            except WireError:
                continue
            if share_digests(gathering, both, i, seat) == digests:
                found[i] = both
        return found

    def beside(self, member: Member, gathering: Gathering) -> ClientHalf[DoubleMaskMember]:
        """The client's part in another sum of the same round: with other secrets, since the server learns these."""
        return (yield from self.join(gathering, member.state, {}))

    def server(self, gathering: Gathering, public: State | None = None) -> DoubleMaskServer:
        """The server's part in any sum of a round."""
        return DoubleMaskServer(gathering, self.rules(gathering))

    def closing(self, phase: str) -> str:
        """The phase in which shares are revealed."""
        return "unmask"

    def rules(self, gathering: Gathering) -> Rules:
        """The rules of a round; GradwireError if the number of clients does not allow the threshold."""
        n = len(gathering.parties)
        colluders = n // 3 if self.colluders is None else self.colluders
        assumed = self.assumed if self.colluders is None else replace(self.assumed, corrupted=colluders / n)
        return Rules.of(n, colluders, self.threshold, assumed if self.sparse else None)


def _drawn(others: tuple[int, ...], count: int) -> tuple[int, ...]:
    """So many of these places, drawn by secret random numbers, ascending."""
    order = np.argsort(expand(random_bytes(KEY_BYTES), len(others), np.dtype("<u8")), kind="stable")
    return tuple(sorted(others[i] for i in order[:count].tolist()))


def _enough(mine: Sized, rules: Rules, where: str, wrong: Mapping[int, str]) -> None:
    """Raise TooFewError if a client hears of so few holders that its secrets could not be restored, and why."""
    if len(mine) + 1 < rules.needed:
        few = f"hears of {len(mine)} neighbours; with fewer than {rules.needed - 1} it does not go on"
        raise TooFewError(f"{where}: {few}{''.join(f'; {why}' for why in wrong.values())}")
