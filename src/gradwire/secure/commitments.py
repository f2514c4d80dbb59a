"""What the clients of a double-mask sum publish and derive in a round, and the facts that all of them share."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Self

from gradwire.errors import GradwireError
from gradwire.secure import keys
from gradwire.secure.graph import Assumptions, sufficient
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import derive, framed
from gradwire.secure.shares import SECRET_BYTES

DIGEST_BYTES = 16
"""Of one share. Two shares with one digest (2⁶⁴ tries) would serve no one but their dealer, who knows both."""


@dataclass(frozen=True)
class Rules:
    """The public facts of a round before it begins.

    Attributes:
        clients: n.
        colluders: c, how many of them may side with the server.
        survivors: clients that must stay for a sum to be released; 2·survivors > n + c, so that the server cannot show
            two lists of survivors to so many.
        chosen: to how many others a client deals shares of its secrets: all, or as many as `graph.sufficient` says.
        needed: t, the shares that restore a secret; 2t > holders + corrupted holders.
    """

    clients: int
    colluders: int
    survivors: int
    chosen: int
    needed: int

    @classmethod
    def of(cls, clients: int, colluders: int, threshold: int, sparse: Assumptions | None) -> Self:
        """The rules; GradwireError if the number of clients does not allow the threshold."""
        least = (clients + colluders) // 2 + 1
        if not least <= threshold <= clients:
            whose = f" (2·threshold > clients + colluders, and {colluders} may collude)" if colluders else ""
            due = f"it must be {least} to {clients}" if least <= clients else "no threshold is enough"
            raise GradwireError(f"threshold is {threshold}; of {clients} clients {due}{whose}")
        if sparse is None:
            return cls(clients, colluders, threshold, clients - 1, threshold)
        degree = sufficient(clients, sparse)
        return cls(clients, colluders, threshold, degree.neighbours, degree.threshold)

    @property
    def holders(self) -> int:
        """Of one client's shares: those it has chosen, and itself."""
        return self.chosen + 1

    @property
    def complete(self) -> bool:
        """Whether everybody shares with everybody."""
        return self.chosen == self.clients - 1

    @property
    def tolerated(self) -> int:
        """How many of a client's holders may lie: one, and as many as leave 2·needed > holders + liars."""
        return max(1, 2 * self.needed - self.chosen - 2)

    def others(self, place: int) -> tuple[int, ...]:
        """All places but one."""
        return tuple(i for i in range(self.clients) if i != place)


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


def own_mask(gathering: Gathering, seed: bytes, place: int) -> bytes:
    """The key of a client's own mask."""
    return derive(seed, "own mask", *gathering.bound(place))


def seed_digest(gathering: Gathering, seed: bytes, place: int) -> bytes:
    """The digest by which a client commits itself to the seed of its own mask."""
    return derive(seed, "commitment", *gathering.context(place))


def pair_secret(gathering: Gathering, secret: bytes, peer: bytes, other: int) -> bytes:
    """What two clients share, from the secret of the one and the public key of the `other`."""
    return keys.agree(gathering.curve, secret, peer, gathering.where("shares", other))


def pair_mask(gathering: Gathering, shared: bytes, place: int, other: int) -> bytes:
    """The key of the mask of two clients, from their `pair_secret`."""
    return derive(shared, "pair mask", *gathering.bound(*sorted((place, other))))


def share_digest(gathering: Gathering, kind: str, share: bytes, dealer: int, holder: int) -> bytes:
    """The digest of a holder's share of a "seed" or a "key", by which it can be told from another when revealed."""
    framed_share = framed(b"share", kind.encode(), *gathering.context(dealer, holder), share)
    return hashlib.sha256(framed_share).digest()[:DIGEST_BYTES]


def share_digests(gathering: Gathering, both: bytes, dealer: int, holder: int) -> bytes:
    """The digests of a holder's two shares."""
    halves = (("seed", both[:SECRET_BYTES]), ("key", both[SECRET_BYTES:]))
    return b"".join(share_digest(gathering, kind, share, dealer, holder) for kind, share in halves)


def survivors_statement(gathering: Gathering, stayed: tuple[int, ...]) -> bytes:
    """What a client signs: which codes it was told have arrived, and everything that it was told before."""
    return framed(b"gradwire survivors", *gathering.bound(), repr(stayed).encode())
