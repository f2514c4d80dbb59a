"""The anonymous union: which entries were chosen, not by whom and not by how many.

Each client adds a vector over all entries of Z_256, with an element drawn at random from 1 … 255 wherever it chooses
and 0 elsewhere. The sum is not zero where one client chose. Where several did it is uniform, and given that it is not
zero it is distributed as if one had chosen, so that it tells not even counts. Where the elements of several cancel (one
time in 255 or less) an entry is passed over; the residual keeps it for the next round.

So the sum tells the union and nothing else, to whomever; a client that finds an entry of its own missing learns that
another chose it too.

In the union of entries with m votes or more the clients vote under a permutation of the entries that the server does
not know. The server says which places have m votes or more, and the clients tell which entries these are. The first
client draws the permutation's key and deals it to each of the others, sealed. A server that keeps to the protocol and
that no client sides with has then the number of entries with 0, 1, 2, … votes, in an order that is uniform, and the
entries with m or more, in an order that tells not which has how many: which other entries were chosen it does not
learn. That is all that is claimed. Every client knows the permutation, so that one that sides with the server tells it
all votes; a server that names places of fewer votes hears which entries these are; and of m votes some may be those of
its own clients.
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
from gradwire.secure.channels import TAG_BYTES, seal, unseal
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import KEY_BYTES, derive, random_bytes
from gradwire.secure.masks import Codes, expand
from gradwire.secure.protocol import Member, Uploads
from gradwire.secure.ring import Ring
from gradwire.wire import ClientHalf, Deal, Send, Tensors

MARKS = Ring(8, 1)
"""The ring of marks and votes. Sums of marks may wrap: only zero and not zero are told apart."""

MOST = 255  # clients whose votes a byte can count
_SEALED_BYTES = KEY_BYTES + TAG_BYTES
PERMUTATION = "permutation"
"""The phase of its sealed keys, and their label."""


def mark(indices: Tensor, size: int) -> Codes:
    """A client's marks at the entries that it chooses, shape (size,)."""
    drawn = np.frombuffer(random_bytes(len(indices)), dtype=np.uint8).copy()
    while (zero := np.flatnonzero(drawn == 0)).size:
        drawn[zero] = np.frombuffer(random_bytes(zero.size), dtype=np.uint8)
    marks = np.zeros(size, dtype=MARKS.dtype)
    marks[indices.numpy()] = drawn
    return marks


def marked(total: Codes, least: int = 1) -> Tensor:
    """Where the sum is at least this, int64, ascending: by default, the entries that were chosen."""
    return torch.from_numpy(np.flatnonzero(total >= least))


@dataclass(frozen=True)
class SecretPermutation:
    """A permutation of the entries (entry → `place`) that the clients know and the server does not."""

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

    def entries(self, places: Tensor) -> Tensor:
        """The entries at these places, int64, ascending."""
        return torch.from_numpy(np.sort(np.argsort(self.place)[places.numpy()]))


def draw(member: Member, size: int) -> ClientHalf[SecretPermutation]:
    """A client's part in drawing the secret permutation: the first client deals its key, the others receive it."""
    gathering, seat, n = member.gathering, member.seat, len(member.gathering.parties)
    if n > MOST:
        raise GradwireError(f"anonymity counts the votes of {MOST} clients at most; the round has {n}")

    def lock(peer: int, receiver: int) -> bytes:
        return derive(member.shared(peer), PERMUTATION, *gathering.context(receiver))

    phase, label = gathering.phase(PERMUTATION), PERMUTATION.encode()
    if seat == 0:
        key = random_bytes(KEY_BYTES)
        yield Send(phase, {"sealed": table([seal(lock(i, i), key, label) for i in range(1, n)], _SEALED_BYTES)})
        return SecretPermutation.of(key, size)
    reply = yield Send(phase, {})
    what = f"{gathering.where(PERMUTATION, seat)}: the permutation's key"
    sealed = rows(part(reply, "sealed", what), 1, _SEALED_BYTES, what)[0]
    return SecretPermutation.of(unseal(lock(0, seat), sealed, label, what), size)


def pass_on(gathering: Gathering, uploads: Uploads) -> Deal:
    """The server's part: give each client its sealed key; TooFewError if the first client deals none."""
    dealer, where = gathering.parties[0], gathering.where(PERMUTATION, 0)
    if dealer not in uploads or "sealed" not in uploads[dealer]:
        raise TooFewError(f"{where}: deals no permutation; the round ends without a sum")
    sealed = rows(uploads[dealer]["sealed"], len(gathering.parties) - 1, _SEALED_BYTES, where)
    replies: Mapping[str, Tensors] = {
        party: {"sealed": table([sealed[i - 1]], _SEALED_BYTES)} if i else {}
        for i, party in enumerate(gathering.parties)
        if party in uploads
    }
    return Deal(gathering.phase(PERMUTATION), replies)
