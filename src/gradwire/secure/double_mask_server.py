"""Double masks, the server's side: pass keys and sealed shares on, add up, and take off what the survivors reveal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch

from gradwire.errors import TooFewError, WireError
from gradwire.secure import directory, keys, shares
from gradwire.secure.byte_tensors import part, places, rows, table, to_bytes
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES, derive
from gradwire.secure.masks import blend
from gradwire.secure.protocol import Host, ServerPart, Total, Uploads
from gradwire.secure.ring import Ring
from gradwire.secure.shares import SECRET_BYTES, TAG_BYTES
from gradwire.wire import Deal, Send, Tensors

SEALED_BYTES = 2 * SECRET_BYTES + TAG_BYTES


@dataclass(frozen=True)
class MaskGraph:
    """What everybody knows of a round before it begins.

    Attributes:
        neighbours: of each client, by place, ascending.
        needed: t, the shares that restore a secret.
        survivors: clients that must stay for the sum to be released.
    """

    neighbours: Sequence[tuple[int, ...]]
    needed: int
    survivors: int

    def holders(self, place: int) -> tuple[int, ...]:
        """Who holds shares of a client's secrets: its neighbours and itself. Their order numbers the shares."""
        return tuple(sorted((place, *self.neighbours[place])))

    def own(self, gathering: Gathering, seed: bytes, place: int) -> bytes:
        """The key of a client's own mask."""
        return derive(seed, "own mask", *gathering.context(gathering.parties[place]))

    def pair(self, gathering: Gathering, secret: bytes, peer: bytes, place: int, other: int) -> bytes:
        """The key of the mask that two clients share, from the secret of the one and the public key of the other."""
        first, second = (gathering.parties[i] for i in sorted((place, other)))
        shared = keys.agree(gathering.curve, secret, peer, gathering.where("shares", gathering.parties[other]))
        return derive(shared, "pair mask", *gathering.context(first, second))


@dataclass(frozen=True)
class Commitments:
    """What a client publishes: the public half of both its keys, and a digest of its seed that tells true shares.

    Attributes:
        mask_key: for pairwise masks; `channel_key`: to seal shares.
        digest: of the seed of its own mask.
    """

    mask_key: bytes
    channel_key: bytes
    digest: bytes

    @classmethod
    def of(cls, gathering: Gathering, place: int, seed: bytes, mask_key: bytes, channel_key: bytes) -> Self:
        """The commitments of the client at a place."""
        return cls(mask_key, channel_key, cls.commit(gathering, place, seed))

    @staticmethod
    def commit(gathering: Gathering, place: int, seed: bytes) -> bytes:
        """The digest of a seed."""
        return derive(seed, "commitment", *gathering.context(gathering.parties[place]))

    @property
    def content(self) -> bytes:
        """As bytes, to be signed."""
        return self.mask_key + self.channel_key + self.digest

    @classmethod
    def parse(cls, gathering: Gathering, content: bytes) -> Self:
        """What `content` made."""
        width = keys.PUBLIC_BYTES[gathering.curve]
        return cls(content[:width], content[width : 2 * width], content[2 * width :])


@dataclass(frozen=True)
class DoubleMaskHost(Host):
    """The server's part in one round's sum. What clients that dealt shares have published is kept for this round."""

    plan: MaskGraph
    published: dict[int, Commitments] = field(default_factory=dict)

    def open(self, uploads: Uploads) -> ServerPart[Uploads]:
        """Phases keys and shares; return the uploads of the phase that follows."""
        width = 2 * keys.PUBLIC_BYTES[self.gathering.curve] + KEY_BYTES
        present = self._present(uploads, "keys")
        hands = {
            party: directory.hand_on(self.gathering, uploads, self.plan.neighbours[place], width)
            for place, party in present.items()
        }
        keys_of = {
            place: to_bytes(part(uploads[party], "keys", self.gathering.where("keys", party)))
            for place, party in present.items()
        }
        uploads = yield Deal(self.gathering.phase("keys"), hands)
        present = self._present(uploads, "shares")
        self.published.update({place: Commitments.parse(self.gathering, keys_of[place]) for place in present})
        boxes = {place: self._table(uploads[party], "sealed", SEALED_BYTES, party) for place, party in present.items()}
        dealt: dict[str, Tensors] = {}
        for place, party in present.items():
            senders = [i for i in self.plan.neighbours[place] if place in boxes.get(i, {})]
            sealed = table([boxes[i][place] for i in senders], SEALED_BYTES)
            dealt[party] = {"places": torch.tensor(senders, dtype=torch.int32), "sealed": sealed}
        return (yield Deal(self.gathering.phase("shares"), dealt))

    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of the codes that arrived in this phase, once enough of their senders have revealed their shares.

        Raises:
            WireError: too few clients are left, or a share is wrong; nothing is summed then.
        """
        stayed = self._present(uploads, phase)
        codes = self.added(uploads, ring, count, phase)
        revealed = yield Send(self.gathering.phase(phase), {"places": torch.tensor(list(stayed), dtype=torch.int32)})
        helpers = self._present(revealed, "unmask")
        found = {i: self._table(revealed[party], "shares", SECRET_BYTES, party) for i, party in helpers.items()}
        known: list[tuple[bytes, int]] = []
        for place in sorted(self.published):
            secret = self._restore(place, found)
            if place in stayed:
                known += [(self._own_mask(place, secret), -1)]
            else:
                known += self._pair_masks(place, secret, stayed)
        blend(codes, known)
        return Total(codes, len(stayed))

    def _present(self, uploads: Uploads, phase: str) -> dict[int, str]:
        """The clients that are still there, by place, if they are enough."""
        present = {place: party for place, party in enumerate(self.gathering.parties) if party in uploads}
        if len(present) < self.plan.survivors:
            round, name = self.gathering.round, self.gathering.phase(phase)
            left = (
                f"{len(present)} of {len(self.gathering.parties)} clients are left, threshold is {self.plan.survivors}"
            )
            raise TooFewError(f"round {round}, phase {name!r}, server: {left}; the round ends without a sum")
        return present

    def _table(self, tensors: Tensors, name: str, width: int, party: str) -> dict[int, bytes]:
        """What a client sends of or to each of several places."""
        phase = "shares" if name == "sealed" else "unmask"
        where = self.gathering.where(phase, party)
        about = places(tensors, where)
        return dict(zip(about, rows(part(tensors, name, where), len(about), width, f"{where}: {name}"), strict=True))

    def _restore(self, place: int, found: Mapping[int, Mapping[int, bytes]]) -> bytes:
        """The one secret of a client that was revealed."""
        holders = enumerate(self.plan.holders(place))
        parts = {number: found[i][place] for number, i in holders if i in found and place in found[i]}
        if len(parts) < self.plan.needed:
            where = self.gathering.where("unmask", self.gathering.parties[place])
            wrong = f"{len(parts)} of its {self.plan.needed} shares needed are left; the round ends without a sum"
            raise TooFewError(f"{where}: {wrong}")
        return shares.combine(parts, self.plan.needed)

    def _own_mask(self, place: int, seed: bytes) -> bytes:
        """The key of a survivor's own mask, once its seed is known."""
        if Commitments.commit(self.gathering, place, seed) != self.published[place].digest:
            self._refuse_share(place)
        return self.plan.own(self.gathering, seed, place)

    def _pair_masks(self, place: int, key_seed: bytes, stayed: Mapping[int, str]) -> list[tuple[bytes, int]]:
        """The masks that survivors had with a client that dropped out, with the signs that take them off."""
        secret = keys.secret_key(self.gathering.curve, key_seed)
        if keys.public_key(self.gathering.curve, secret) != self.published[place].mask_key:
            self._refuse_share(place)
        return [
            (self.plan.pair(self.gathering, secret, self.published[i].mask_key, place, i), 1 if place < i else -1)
            for i in self.plan.neighbours[place]
            if i in stayed
        ]

    def _refuse_share(self, place: int) -> None:
        where = self.gathering.where("unmask", self.gathering.parties[place])
        raise WireError(f"{where}: a share of its secret is wrong; the round ends without a sum")
