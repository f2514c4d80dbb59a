"""What a server reads from the messages of clients with autoencoders: parameters, or codes and their decoders.

It remembers every client's decoder and its version as public state: `decoder/PARTY` and `version/PARTY`.
"""

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.codec.layers import Layers
from gradwire.schemes.round import State
from gradwire.wire import Tensors


def announced(upload: Tensors, party: str) -> dict[str, Tensor]:
    """What the server remembers of a message: the client's decoder and its version, if it came with them."""
    return {f"{name}/{party}": upload[name] for name in ("decoder", "version") if "decoder" in upload}


def decoder(upload: Tensors, party: str, public: State) -> Tensor:
    """The client's decoder: the one that came with this message, or else the one that is remembered.

    Raises:
        GradwireError: there is none.
    """
    known = {**public, **announced(upload, party)}
    if f"decoder/{party}" not in known:
        raise GradwireError(f"autoencoder: {party} sent a code and never a decoder")
    return known[f"decoder/{party}"]


def read(upload: Tensors, party: str, public: State, layers: Layers) -> Tensor:
    """The parameters that a client's message stands for, flat, shape (N,).

    Raises:
        GradwireError: the code is of another decoder than the one at hand, or stands for no finite parameters.
    """
    if "parameters" in upload:
        return upload["parameters"]
    weights = decoder(upload, party, public)
    version, at_hand = upload["version"], {**public, **announced(upload, party)}[f"version/{party}"]
    if int(version) != int(at_hand):
        wrong = f"version {int(version)}; the decoder at hand is of version {int(at_hand)}"
        raise GradwireError(f"autoencoder: {party}'s code is of {wrong}")
    found = layers.decode(weights, upload["code"])
    if not bool(torch.isfinite(found).all()):
        raise GradwireError(f"autoencoder: {party}'s parameters are not finite")
    return found
