"""The key exchange that opens every protocol: clients publish signed keys, the server passes them on, clients check.

The server cannot replace keys by its own: a signature holds for one party, one round and one purpose, and clients
know each other's verification keys from elsewhere.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import by_place, read_by_place, table, to_bytes, to_tensor
from gradwire.secure.identity import Gathering, State, certified, certify, name
from gradwire.secure.keys import SIGNATURE_BYTES
from gradwire.wire import Tensors


def publish(gathering: Gathering, state: State, content: bytes) -> dict[str, Tensor]:
    """A client's upload: its public keys and its signature of them."""
    return {"keys": to_tensor(content), "signature": to_tensor(certify(gathering, state, content))}


def pass_on(gathering: Gathering, uploads: Mapping[str, Tensors], to: Sequence[int], width: int) -> dict[str, Tensor]:
    """The server's reply: the keys (`width` bytes) of those parties among places `to` that sent any.

    WireError names a party whose keys or signature have another length.
    """
    found: dict[str, dict[int, bytes]] = {"keys": {}, "signature": {}}
    for place in to:
        if (tensors := uploads.get(gathering.parties[place])) is None:
            continue
        for column, size in (("keys", width), ("signature", SIGNATURE_BYTES)):
            sent = tensors.get(column)
            if sent is None or sent.dtype != torch.uint8 or tuple(sent.shape) != (size,):
                raise WireError(f"{gathering.where('keys', place)}: {column!r} is not {size} bytes")
            found[column][place] = to_bytes(sent)
    signatures = table(list(found["signature"].values()), SIGNATURE_BYTES)
    return {**by_place("keys", found["keys"], width), "signatures": signatures}


def read(gathering: Gathering, state: State, reply: Tensors, to: Sequence[int], width: int) -> dict[int, bytes]:
    """A client's reading of the server's reply: place → public keys.

    WireError names a party that was not expected, or whose signature does not hold.
    """
    where = gathering.where("keys", name(state))
    contents = read_by_place(reply, "keys", width, where)
    signatures = read_by_place(reply, "signatures", SIGNATURE_BYTES, where)
    if not set(contents) <= set(to):
        raise WireError(f"{where}: got keys of places {list(contents)}; expected some of {list(to)}")
    for place, content in contents.items():
        if not certified(gathering, state, gathering.parties[place], content, signatures[place]):
            wrong = "its signature does not hold: not its keys, or keys of another round"
            raise WireError(f"{gathering.where('keys', place)}: {wrong}")
    return contents
