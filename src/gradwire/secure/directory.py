"""The first phase of every protocol here: clients publish signed keys, the server hands them on, clients check them.

The server cannot put keys of its own in their place: a signature holds for one party, one round and one purpose, and
verification keys are known from elsewhere.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import part, places, rows, table, to_bytes, to_tensor
from gradwire.secure.identity import Gathering, State, certified, certify
from gradwire.secure.keys import SIGNATURE_BYTES
from gradwire.wire import Tensors


def publish(gathering: Gathering, state: State, content: bytes) -> dict[str, Tensor]:
    """What a client sends: its public keys and its signature under them."""
    return {"keys": to_tensor(content), "signature": to_tensor(certify(gathering, state, content))}


def hand_on(gathering: Gathering, uploads: Mapping[str, Tensors], to: Sequence[int], width: int) -> dict[str, Tensor]:
    """What the server passes on: the keys of those parties among places `to` that sent any.

    Raises:
        WireError: keys or a signature of another length than `width` and 64 bytes, naming the party.
    """
    senders = [place for place in to if gathering.parties[place] in uploads]
    keys: list[bytes] = []
    signatures: list[bytes] = []
    for place in senders:
        party = gathering.parties[place]
        where = gathering.where("keys", party)
        for name, size, column in (("keys", width, keys), ("signature", SIGNATURE_BYTES, signatures)):
            found = uploads[party].get(name)
            if found is None or found.dtype != torch.uint8 or tuple(found.shape) != (size,):
                raise WireError(f"{where}: {name!r} is not {size} bytes")
            column.append(to_bytes(found))
    return {
        "places": torch.tensor(senders, dtype=torch.int32),
        "keys": table(keys, width),
        "signatures": table(signatures, SIGNATURE_BYTES),
    }


def read(gathering: Gathering, state: State, reply: Tensors, to: Sequence[int], width: int) -> dict[int, bytes]:
    """A client's reading of what the server passed on: place → public keys, every signature verified.

    Raises:
        WireError: a place that was not expected, or a signature that does not hold, naming the party.
    """
    where = gathering.where("keys", to_bytes(state["me"]).decode())
    senders = places(reply, where)
    if not set(senders) <= set(to):
        raise WireError(f"{where}: got keys of places {senders}; expected some of {list(to)}")
    contents = rows(part(reply, "keys", where), len(senders), width, f"{where}: keys")
    signatures = rows(part(reply, "signatures", where), len(senders), SIGNATURE_BYTES, f"{where}: signatures")
    for place, content, signature in zip(senders, contents, signatures, strict=True):
        party = gathering.parties[place]
        if not certified(gathering, state, party, content, signature):
            wrong = "its signature does not hold: not its keys, or keys of another round"
            raise WireError(f"{gathering.where('keys', party)}: {wrong}")
    return dict(zip(senders, contents, strict=True))
