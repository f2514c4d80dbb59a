"""The bare projection that an autoencoder begins as, B·Bᵀ of every 16 numbers in a row, by one product and no network.

A control: nothing is learned, and nothing costs anything. Its weights are B (16×4, see `initial`), for both halves; a
code lies as that of `network` does. Shapes are those of its functions.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.schemes.codec import initial
from gradwire.schemes.codec.network import CHANNELS, SHRINK

SIZE = SHRINK * CHANNELS
"""Numbers of B."""


def start(random: torch.Generator) -> Tensor:
    """B of the projection that the autoencoder of the same random numbers begins as, flat."""
    return torch.cat(initial.block(random)).flatten()


def halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """B, which encodes and decodes."""
    return weights, weights


def encode(weights: Tensor, vector: Tensor) -> Tensor:
    """Bᵀ of every 16 numbers."""
    return (weights.view(SHRINK, CHANNELS).mT @ pad(vector, (0, -len(vector) % SHRINK)).view(-1, SHRINK).mT).flatten()


def decode(weights: Tensor, code: Tensor, length: int) -> Tensor:
    """B of every 4."""
    return (weights.view(SHRINK, CHANNELS) @ code.view(CHANNELS, -1)).mT.flatten()[:length]


def rebuilt(weights: Tensor, vector: Tensor) -> Tensor:
    """The projection of a vector; of what is cut off at its end, nothing is made."""
    return decode(weights, encode(weights, vector), len(vector))
