"""A convolutional autoencoder of vectors, as functions of its weights.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": tables I and II. A leaky ReLU follows every layer but the decoder's last. Every layer of stride 2
halves or doubles the length: a code has 4 channels of a sixteenth of the vector's length. A vector whose length is no
multiple of 16 is padded with zeros, which are cut off again. Rows are positions and columns are channels, so that every
layer is a banded product (`banded`).

By table II the decoder has 43,472 weights and 261 biases; the 72,352 that the paper states do not follow from it.
"""

from collections.abc import Callable, Mapping
from math import inf

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
"""Channels of a code."""
SHRINK = 16
"""The length of a vector over that of its code."""
TILE = 512 * SHRINK
"""Numbers of a long vector that go through all layers at a time: as many as fit into a cache with their channels."""


def _shapes(layers: tuple[tuple[int, int, int], ...], inputs: int, transposed: int) -> dict[str, tuple[int, ...]]:
    """Shapes of weights and biases; the first `transposed` layers are transposed convolutions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (filters, kernel, _) in enumerate(layers):
        pair = (inputs, filters) if number < transposed else (filters, inputs)
        shapes |= {f"{number}.weight": (*pair, kernel), f"{number}.bias": (filters,)}
        inputs = filters
    return shapes


HALVES = {"encode": Layout(_shapes(ENCODER, 1, 0)), "decode": Layout(_shapes(DECODER, CHANNELS, len(DECODER) - 1))}
"""The layouts of each half's weights: 172,996 and 43,733 numbers."""


def halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's and the decoder's part of an autoencoder's weights."""
    encoder, decoder = weights.split([half.size for half in HALVES.values()])
    return encoder, decoder


def code_size(length: int) -> int:
    """Numbers in the code of a vector of `length` numbers."""
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
    """The output of an autoencoder for a vector (N,)."""
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


def preimage(make: Callable[[Tensor], Tensor], target: Tensor, steps: int = 3) -> Tensor:
    """A vector near `target`, both (N,), whose output is nearer to `target` than that of `target` itself.

    Steepest descent on half the squared distance from `target`, with a trial step for each step's length (exact for a
    linear autoencoder). The best of the vectors on the way, `target` among them, is returned.

    Args:
        make: the output for a vector.
    """
    vector, best, least = target, target, inf
    for step in range(steps + 1):
        made, pulled_back = vjp(make, vector)[:2] if step < steps else (make(vector), None)
        distance = float((target - made).norm())
        if distance < least:
            best, least = vector, distance
        if pulled_back is not None:
            (along,) = pulled_back(target - made)
            length = along.square().sum() / (make(vector + along) - made).square().sum()
            vector = vector + length.where(length.isfinite(), 0) * along
    return best
