"""Sealed channels: what clients tell each other through the server, which can neither read, change nor replay it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from gradwire.secure import keys, shares
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import derive


@dataclass(frozen=True)
class Channels:
    """One client's channels in one round, good for one message each way.

    Attributes:
        seat: the client's place.
        secrets: shared with each peer, by place.
    """

    gathering: Gathering
    seat: int
    secrets: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def to(cls, gathering: Gathering, seat: int, secret: bytes, peers: Mapping[int, bytes]) -> Self:
        """The channels of the client with agreement key `secret` to peers with these public keys, by place."""
        names = gathering.parties
        return cls(
            gathering,
            seat,
            {
                i: keys.agree(gathering.curve, secret, key, gathering.where("keys", names[i]))
                for i, key in peers.items()
            },
        )

    def seal(self, plain: bytes, receiver: int) -> bytes:
        """A message to a peer."""
        context = self._context(self.seat, receiver)
        return shares.seal(self._key(receiver, context), plain, b"\n".join(context))

    def unseal(self, sealed: bytes, sender: int) -> bytes:
        """A message from a peer.

        Raises:
            WireError: it is not from that peer, not to this client or not of this round.
        """
        context = self._context(sender, self.seat)
        what = f"{self.gathering.where('shares', self.gathering.parties[sender])}: its share"
        return shares.unseal(self._key(sender, context), sealed, b"\n".join(context), what)

    def _key(self, peer: int, context: tuple[bytes, ...]) -> bytes:
        return derive(self.secrets[peer], "share", *context)

    def _context(self, sender: int, receiver: int) -> tuple[bytes, ...]:
        return self.gathering.context(self.gathering.parties[sender], self.gathering.parties[receiver])
