"""A convolutional autoencoder of vectors, as functions of its weights: what `autoencoder` compresses tensors with.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": tables I and II. A leaky ReLU follows every layer but the decoder's last. Every stride of 2 halves
a length or doubles it, so that a vector whose length 16 divides comes out as long as it went in, and its code has 4
channels of a sixteenth of the length; any other is filled up with zeros, which are cut off again.

Positions are rows here and channels columns, so that every layer is a banded product (`banded`).

Table II makes 43,472 weights and 261 biases of the decoder; the 72,352 that the paper states do not follow from it.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.func import vjp
from torch.nn.functional import leaky_relu, pad

from gradwire.schemes.codec.banded import doubled, halved, spread
from gradwire.schemes.layout import Layout

ENCODER = ((64, 3, 2), (128, 3, 2), (256, 3, 2), (64, 3, 2), (4, 1, 1))
"""Filters, kernel size and stride: table I."""
DECODER = ((4, 3, 2), (32, 3, 2), (64, 3, 2), (128, 3, 2), (32, 3, 1), (1, 1, 1))
"""The same of table II; all but the last are transposed convolutions."""
CHANNELS = 4
"""Of a code."""
SHRINK = 16
"""A code's length is a vector's divided by this, rounded up."""
TILE = 512 * SHRINK
"""Numbers of a long vector that go through all layers at a time, lest their channels not fit a cache."""


def _shapes(layers: tuple[tuple[int, int, int], ...], inputs: int, transposed: int) -> dict[str, tuple[int, ...]]:
    """Shapes of weights and biases, the first `transposed` of which belong to transposed convolutions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (filters, kernel, _) in enumerate(layers):
        pair = (inputs, filters) if number < transposed else (filters, inputs)
        shapes |= {f"{number}.weight": (*pair, kernel), f"{number}.bias": (filters,)}
        inputs = filters
    return shapes


HALVES = {
    "encode": Layout(_shapes(ENCODER, 1, 0)),
    "decode": Layout(_shapes(DECODER, CHANNELS, len(DECODER) - 1)),
}
"""The order in which each half's weights lie in a vector: 172,996 and 43,733 numbers."""


def halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's and the decoder's part of an autoencoder's weights."""
    encoder, decoder = weights.split([half.size for half in HALVES.values()])
    return encoder, decoder


def code_size(length: int) -> int:
    """Numbers in the code of a vector of so many."""
    return CHANNELS * -(-length // SHRINK)


def encode(weights: Tensor, vector: Tensor) -> Tensor:
    """The code of a vector (N,), shape (code_size(N),); `weights` are an encoder's. Equation 6."""
    layers, codes = HALVES["encode"].unflatten(weights), []
    for start in range(0, len(vector), TILE):
        before = SHRINK if start else 0  # a code depends on what lies up to 15 numbers before its own 16
        code = _encoded(layers, vector[start - before : start + TILE])
        codes.append(code[before // SHRINK :])
    return torch.cat(codes).t().flatten()


def decode(weights: Tensor, code: Tensor, length: int) -> Tensor:
    """The vector (length,) that a code stands for; `weights` are a decoder's. Equation 7."""
    layers, rows, vectors = HALVES["decode"].unflatten(weights), code.view(CHANNELS, -1).t(), []
    for start in range(0, len(rows), TILE // SHRINK):
        before = 1 if start else 0  # a number depends on the codes beside its own, on either side
        vector = _decoded(layers, rows[start - before : start + TILE // SHRINK + 1])
        vectors.append(vector[SHRINK * before :][:TILE])
    return torch.cat(vectors)[:length]


def rebuilt(weights: Tensor, vector: Tensor) -> Tensor:
    """What an autoencoder makes of a vector (N,)."""
    encoder, decoder = halves(weights)
    return decode(decoder, encode(encoder, vector), len(vector))


def _encoded(layers: Mapping[str, Tensor], vector: Tensor) -> Tensor:
    """All layers of the encoder, on a vector (N,), to codes (N / SHRINK, CHANNELS)."""
    hidden = pad(vector, (0, -len(vector) % SHRINK))[:, None]
    for number, (_, _, stride) in enumerate(ENCODER):
        taps, bias = layers[f"{number}.weight"].permute(2, 1, 0), layers[f"{number}.bias"]
        hidden = leaky_relu(halved(hidden, taps, bias) if stride == 2 else torch.addmm(bias, hidden, taps[0]))
    return hidden


def _decoded(layers: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
    """All layers of the decoder, on codes (N / SHRINK, CHANNELS), to a vector (N,)."""
    last = len(DECODER) - 1
    for number, (_, _, stride) in enumerate(DECODER[:last]):
        taps, bias = layers[f"{number}.weight"].permute(2, 0, 1), layers[f"{number}.bias"]
        hidden = leaky_relu((doubled if stride == 2 else spread)(hidden, taps, bias))
    final = layers[f"{last}.weight"].permute(2, 1, 0)
    return torch.addmm(layers[f"{last}.bias"], hidden, final[0])[:, 0]


def preimage(weights: Tensor, target: Tensor, steps: int = 3) -> Tensor:
    """A vector near `target` of which an autoencoder makes `target`, both (N,), or comes closer to it than from itself.

    Steepest descent on half the squared distance, each step as long as a trial step says: exact where the autoencoder
    is linear. Of the vectors on the way, `target` the first, it is the one with the least distance.
    """
    vectors = [target]
    for _ in range(steps):
        made, pulled_back = vjp(partial(rebuilt, weights), vectors[-1])[:2]
        (along,) = pulled_back(target - made)
        length = along.square().sum() / (rebuilt(weights, vectors[-1] + along) - made).square().sum()
        vectors.append(vectors[-1] + length.where(length.isfinite(), 0) * along)
    distances = [float((target - rebuilt(weights, vector)).norm()) for vector in vectors]
    return vectors[distances.index(min(distances))]
