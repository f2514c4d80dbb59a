"""What a server reads out of the messages of clients with autoencoders: parameters, or codes and the decoder of these.

It remembers every client's decoder and the version that this goes by, as public state: `decoder/PARTY` and
`version/PARTY`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.codec import network
from gradwire.schemes.codec.layers import Layers
from gradwire.schemes.round import Round, State
from gradwire.wire import Tensors


def introduced(upload: Tensors, party: str) -> dict[str, Tensor]:
    """What the server remembers of a message: the client's decoder and its version, if it came with them."""
    return {
        f"{name}/{party}": upload[name] for name in ("decoder", "version") if "decoder" in upload and name in upload
    }


def decoder(upload: Tensors, party: str, public: State) -> Tensor:
    """The client's decoder: the one that came with this message, or else the one that is remembered.

    Raises:
        GradwireError: there is none, or it has the wrong length.
    """
    weights = (dict(public) | introduced(upload, party)).get(f"decoder/{party}")
    size = network.HALVES["decode"].size
    if weights is None:
        raise GradwireError(f"autoencoder: {party} sent a code and never a decoder")
    if weights.shape != (size,):
        raise GradwireError(f"autoencoder: {party}'s decoder has {weights.numel()} numbers; it must have {size}")
    return weights


def read(upload: Tensors, party: str, public: State, round: Round) -> Tensor:
    """The parameters that a client's message stands for, flat, shape (N,).

    Raises:
        GradwireError: a decoder or code of the wrong length, a code of another decoder than the one at hand, or
            parameters that are not finite.
    """
    who = f"autoencoder: {party}'s"
    found = upload["parameters"] if "parameters" in upload else _decoded(upload, party, public, round, who)
    if found.shape != (round.layout.size,):
        raise GradwireError(f"{who} parameters are {found.numel()} numbers; the model has {round.layout.size}")
    if not bool(torch.isfinite(found).all()):
        raise GradwireError(f"{who} parameters are not finite")
    return found


def _decoded(upload: Tensors, party: str, public: State, round: Round, who: str) -> Tensor:
    weights, layers, code = decoder(upload, party, public), Layers.of(round), upload.get("code")
    size = sum(layers.sizes.values())
    if code is None or code.shape != (size,):
        held = 0 if code is None else code.numel()
        raise GradwireError(f"{who} code has {held} numbers; those of this model have {size}")
    known = dict(public) | introduced(upload, party)
    version, has = _version(upload, "version"), _version(known, f"version/{party}")
    if version is None or version != has:
        raise GradwireError(f"{who} code is of version {version}; the decoder at hand is of version {has}")
    return layers.decode(weights, code)


def _version(tensors: Mapping[str, Tensor], name: str) -> int | None:
    """The number that a decoder goes by; None where there is no such number."""
    tensor = tensors.get(name)
    return int(tensor) if tensor is not None and tensor.numel() == 1 and not tensor.is_floating_point() else None
