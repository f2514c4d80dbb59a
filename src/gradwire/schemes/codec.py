"""A convolutional autoencoder of vectors, as functions of its weights: what `autoencoder` compresses tensors with.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": tables I and II. A leaky ReLU follows every layer but the decoder's last. Every stride of 2 halves
a length or doubles it, so that a vector whose length 16 divides comes out as long as it went in, and its code has 4
channels of a sixteenth of the length; any other is filled up with zeros, which are cut off again.

Table II makes 43,472 weights and 261 biases of the decoder; the 72,352 that the paper states do not follow from it.
"""

from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, leaky_relu, pad

from gradwire.schemes.layout import Layout

ENCODER = ((64, 3, 2), (128, 3, 2), (256, 3, 2), (64, 3, 2), (4, 1, 1))
"""Filters, kernel size and stride: table I."""
DECODER = ((4, 3, 2), (32, 3, 2), (64, 3, 2), (128, 3, 2), (32, 3, 1), (1, 1, 1))
"""The same of table II; all but the last are transposed convolutions."""
CHANNELS = 4
"""Of a code."""
SHRINK = 16
"""A code's length is a vector's divided by this, rounded up."""


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


def initial(half: str, random: torch.Generator) -> Tensor:
    """A half's weights before any training: uniform within ±1/√(inputs · kernel), as PyTorch's layers have them."""
    weights, bound = {}, 1.0
    for name, shape in HALVES[half].shapes.items():
        if len(shape) == 3:  # a bias goes by the weight before it
            bound = 1 / sqrt(shape[1] * shape[2])
        weights[name] = (2 * torch.rand(shape, generator=random) - 1) * bound
    return HALVES[half].flatten(weights)


def halves(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's and the decoder's part of an autoencoder's weights."""
    encoder, decoder = weights.split([half.size for half in HALVES.values()])
    return encoder, decoder


def code_size(length: int) -> int:
    """Numbers in the code of a vector of so many."""
    return CHANNELS * -(-length // SHRINK)


def encode(weights: Tensor, vector: Tensor) -> Tensor:
    """The code of a vector (N,), shape (code_size(N),); `weights` are an encoder's. Equation 6."""
    layers = HALVES["encode"].unflatten(weights)
    hidden = pad(vector, (0, -len(vector) % SHRINK))[None]
    for number, (_, kernel, stride) in enumerate(ENCODER):
        weight, bias = layers[f"{number}.weight"], layers[f"{number}.bias"]
        hidden = leaky_relu(conv1d(hidden, weight, bias, stride=stride, padding=kernel // 2))
    return hidden.flatten()


def decode(weights: Tensor, code: Tensor, length: int) -> Tensor:
    """The vector (length,) that a code stands for; `weights` are a decoder's. Equation 7."""
    layers = HALVES["decode"].unflatten(weights)
    hidden = code.view(CHANNELS, -1)
    for number, (_, kernel, stride) in enumerate(DECODER):
        weight, bias = layers[f"{number}.weight"], layers[f"{number}.bias"]
        if number == len(DECODER) - 1:
            return conv1d(hidden, weight, bias)[0, :length]
        hidden = leaky_relu(
            conv_transpose1d(hidden, weight, bias, stride, padding=kernel // 2, output_padding=stride - 1)
        )
    raise AssertionError("a decoder has a last layer")
