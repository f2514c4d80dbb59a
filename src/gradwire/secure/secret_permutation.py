"""The k-anonymous union: an entry is told only if at least m clients chose it; of the others nobody learns which.

The clients count votes under a permutation of the entries that the server does not know: it sees how many votes fell
on some unknown places, says which of these places have m or more, and only the clients can tell which entries they are.
The permutation is drawn from a key that the first client deals to each of the others, sealed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradwire.errors import GradwireError, TooFewError
from gradwire.secure.byte_tensors import part, rows, table
from gradwire.secure.entropy import random_bytes
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES, derive
from gradwire.secure.masks import Codes, expand
from gradwire.secure.protocol import Member, Uploads
from gradwire.secure.shares import TAG_BYTES, seal, unseal
from gradwire.secure.union import MARKS
from gradwire.wire import ClientHalf, Deal, Send, Tensors

MOST = 255
"""Clients whose votes a byte can count."""


@dataclass(frozen=True)
class SecretPermutation:
    """A secret permutation.

    Attributes:
        place: entry → place.
    """

    place: NDArray[np.int64]

    @classmethod
    def of(cls, key: bytes, size: int) -> Self:
        """The permutation of `size` entries that everybody with the key draws alike."""
        return cls(np.argsort(expand(key, size, np.dtype("<u8")), kind="stable"))

    def ballot(self, chosen: Tensor) -> Codes:
        """One vote at the place of each chosen entry, shape (size,)."""
        votes = np.zeros(len(self.place), dtype=MARKS.dtype)
        votes[self.place[chosen.numpy()]] = 1
        return votes

    def lift(self, places: Tensor) -> Tensor:
        """The entries at these places, int64, ascending."""
        entry = np.empty_like(self.place)
        entry[self.place] = np.arange(len(self.place))
        return torch.from_numpy(np.sort(entry[places.numpy()]))


def draw(member: Member, size: int) -> ClientHalf[SecretPermutation]:
    """A client's part in drawing the common veil: the first client deals its key, the others receive it."""
    gathering = member.gathering
    others = range(1, len(gathering.parties))
    if len(gathering.parties) > MOST:
        raise GradwireError(f"anonymity counts the votes of {MOST} clients at most; the round has {len(others) + 1}")
    if member.seat:
        reply = yield Send(gathering.phase("veil"), {})
        box = rows(
            part(reply, "sealed", _what(gathering, member.seat)),
            1,
            KEY_BYTES + TAG_BYTES,
            _what(gathering, member.seat),
        )[0]
        lock = derive(member.shared(0), "veil", *_context(gathering, member.seat))
        return SecretPermutation.of(unseal(lock, box, b"veil", _what(gathering, member.seat)), size)
    key = random_bytes(KEY_BYTES)
    locks = (derive(member.shared(i), "veil", *_context(gathering, i)) for i in others)
    boxes = table([seal(lock, key, b"veil") for lock in locks], KEY_BYTES + TAG_BYTES)
    yield Send(gathering.phase("veil"), {"sealed": boxes})
    return SecretPermutation.of(key, size)


def hand_out(gathering: Gathering, uploads: Uploads) -> Deal:
    """The server's part: each client's box to that client.

    Raises:
        TooFewError: the first client is gone, or has not dealt a box for everybody.
    """
    dealer, count = gathering.parties[0], len(gathering.parties) - 1
    if dealer not in uploads or "sealed" not in uploads[dealer]:
        raise TooFewError(f"{gathering.where('veil', dealer)}: deals no permutation; the round ends without a sum")
    boxes = rows(uploads[dealer]["sealed"], count, KEY_BYTES + TAG_BYTES, gathering.where("veil", dealer))
    hands: Mapping[str, Tensors] = {
        party: {"sealed": table([boxes[i - 1]], KEY_BYTES + TAG_BYTES)} if i else {}
        for i, party in enumerate(gathering.parties)
        if party in uploads
    }
    return Deal(gathering.phase("veil"), hands)


def _what(gathering: Gathering, seat: int) -> str:
    return f"{gathering.where('veil', gathering.parties[seat])}: the permutation's key"


def _context(gathering: Gathering, receiver: int) -> tuple[bytes, ...]:
    return gathering.context(gathering.parties[receiver])
