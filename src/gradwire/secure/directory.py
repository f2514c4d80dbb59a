"""The key exchange that opens every protocol: clients publish signed keys, the server passes them on, clients check.

The server cannot replace keys by its own: a signature holds for one party, one round and one purpose, and clients
know each other's verification keys from elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import by_place, part, read_by_place, table, to_bytes, to_tensor
from gradwire.secure.identity import Gathering, State, certified, certify, name
from gradwire.secure.keys import SIGNATURE_BYTES
from gradwire.wire import Tensors


class Signed(NamedTuple):
    """What a client publishes: public keys, and its signature of them."""

    content: bytes
    signature: bytes


def publish(gathering: Gathering, state: State, content: bytes) -> dict[str, Tensor]:
    """A client's upload: its public keys and its signature of them."""
    return {"keys": to_tensor(content), "signature": to_tensor(certify(gathering, state, content))}


def collect(tensors: Tensors, width: int, where: str) -> Signed:
    """What a client has published; WireError about `where` if keys or signature have another length."""
    found = []
    for column, size in (("keys", width), ("signature", SIGNATURE_BYTES)):
        sent = part(tensors, column, where)
        if sent.dtype != torch.uint8 or tuple(sent.shape) != (size,):
            raise WireError(f"{where}: {column!r} is not {size} bytes")
        found.append(to_bytes(sent))
    return Signed(*found)


def pass_on(signed: Mapping[int, Signed], to: Iterable[int], width: int) -> dict[str, Tensor]:
    """The server's reply: the keys (`width` bytes) of those places that have published any."""
    passed = {place: signed[place] for place in to if place in signed}
    signatures = table([each.signature for each in passed.values()], SIGNATURE_BYTES)
    return {**by_place("keys", {i: each.content for i, each in passed.items()}, width), "signatures": signatures}


def read(
    gathering: Gathering, state: State, reply: Tensors, to: Sequence[int], width: int
) -> tuple[dict[int, bytes], dict[int, str]]:
    """A client's reading of the server's reply: place → public keys, and place → why its keys are not believed.

    WireError: the reply is malformed, or holds keys of a party that was not expected.
    """
    where = gathering.where("keys", name(state))
    contents = read_by_place(reply, "keys", width, where)
    signatures = read_by_place(reply, "signatures", SIGNATURE_BYTES, where)
    if not set(contents) <= set(to):
        raise WireError(f"{where}: got keys of places {list(contents)}; expected some of {list(to)}")
    wrong = "its signature does not hold: not its keys, or keys of another round"
    unsigned = {
        place: f"{gathering.where('keys', place)}: {wrong}"
        for place, content in contents.items()
        if not certified(gathering, state, gathering.parties[place], content, signatures[place])
    }
    return {place: content for place, content in contents.items() if place not in unsigned}, unsigned
