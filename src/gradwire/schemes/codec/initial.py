"""What an autoencoder is before it is trained: at random, or an orthogonal projection that keeps a quarter.

The paper does not say. `uniform` draws every weight as PyTorch's layers do. What such an autoencoder makes of
parameters is next to nothing, and what training first teaches it depends on the parameters at hand.

`projection` has the same layers compute B·Bᵀ of every 16 numbers in a row, for a 16×4 matrix B of random orthonormal
columns: a linear map, so that steps taken through it go where they should; one that leaves alone what it has made
once, so that nothing adds up; and the same for all clients, so that the mean of theirs is in its range as well. Weights
that nobody has seen before are noise, of which no autoencoder can keep more than that linearly, and how it begins is
public anyway. No column of B has a mean: a change of all weights of a row by the same amount is what a loss answers to
most steeply, for the inputs of a layer are mostly positive, and it holds steps in all other directions short.

How leaky ReLUs can be linear: every number that is on its way is lifted above zero by `LIFT`, where they are.
"""

from math import sqrt

import torch
from torch import Tensor

from gradwire.schemes.codec.network import CHANNELS, DECODER, ENCODER, HALVES, SHRINK

LIFT = 6.0
"""In units of the numbers' root mean square: beyond it, a number is bent."""
HALF = SHRINK // 2


def uniform(random: torch.Generator) -> Tensor:
    """Weights drawn as PyTorch's layers have them."""
    return torch.cat([drawn(half, random) for half in HALVES])


def drawn(half: str, random: torch.Generator) -> Tensor:
    """A half's weights before any training: uniform within ±1/√(inputs · kernel), as PyTorch's layers have them."""
    weights, bound = {}, 1.0
    for name, shape in HALVES[half].shapes.items():
        if len(shape) == 3:  # a bias goes by the weight before it
            bound = 1 / sqrt(shape[1] * shape[2])
        weights[name] = (2 * torch.rand(shape, generator=random) - 1) * bound
    return HALVES[half].flatten(weights)


def projection(random: torch.Generator) -> Tensor:
    """Weights of an orthogonal projection. Channels that take no part in it are as `uniform` has them."""
    upper = _columns(random)
    lower = upper.roll(1, 1)  # of the numbers 8 to 15 of a block: the same, of the code's channels in another order
    return torch.cat([_encoder(drawn("encode", random), upper, lower), _decoder(drawn("decode", random), upper)])


def _columns(random: torch.Generator) -> Tensor:
    """The first eight rows of B, shape (8, 4).

    Within a code numbers are lifted as well, all of its channels by the same, so that a multiple of B's row sums has to
    be taken off again. Where in a block it is the decoder knows but for the two highest bits of the place, so that the
    sums of rows 0 to 3 have to be those of rows 4 to 7.
    """
    free, mean = torch.randn(HALF, CHANNELS, generator=random), torch.full((HALF, 1), 1.0)
    free[:, 0] = free[: HALF // 2, 0].repeat(2)
    # The first column of Q is the mean's, and the second still the one that repeats itself.
    basis = torch.linalg.qr(torch.cat([mean, free], 1)).Q[:, 1:]
    turn = torch.linalg.qr(torch.cat([torch.ones(CHANNELS, 1), torch.randn(CHANNELS, 3, generator=random)], 1)).Q
    return basis @ turn.T / 2**0.5


def _encoder(weights: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Four layers that set neighbours side by side as channels, and one that multiplies by Bᵀ."""
    layers, used = HALVES["encode"].unflatten(weights.clone()), 1
    for number in range(len(ENCODER) - 1):
        kernel, bias = layers[f"{number}.weight"], layers[f"{number}.bias"]
        kernel[: 2 * used], bias[: 2 * used] = 0, LIFT if number == 0 else 0
        for channel in range(used):
            kernel[channel, channel, 1] = kernel[used + channel, channel, 2] = 1
        used *= 2
    kernel, bias, block = layers["4.weight"], layers["4.bias"], torch.cat([upper, lower])
    kernel.zero_()[:, :used, 0] = block.T
    bias.copy_(LIFT - LIFT * block.sum(0))
    return HALVES["encode"].flatten(layers)


def _decoder(weights: Tensor, upper: Tensor) -> Tensor:
    """Four layers that give each half of what a position stands for channels of its own, and one that multiplies by B.

    The first has no channels to spare: the lower half's code is that of the upper one with its channels rolled. From
    the second on there is a channel of ones besides, which tells, as it is split up in its turn, the places apart.
    """
    layers, used = HALVES["decode"].unflatten(weights.clone()), CHANNELS
    kernel, bias = layers["0.weight"].zero_(), layers["0.bias"].zero_()
    kernel[:, :, 1] = torch.eye(CHANNELS)
    kernel[:, :, 2] = torch.eye(CHANNELS).roll(-1, 1)
    for number in range(1, len(DECODER) - 2):
        kernel, bias = layers[f"{number}.weight"], layers[f"{number}.bias"]
        ones = 1 if number == 1 else 0
        kernel[:, : 2 * used + ones], bias[: 2 * used + ones] = 0, 0
        for channel in range(used):
            kernel[channel, channel, 1] = kernel[channel, used + channel, 2] = 1
        bias[2 * used : 2 * used + ones] = 1
        used = 2 * used + ones
    # Rows by the bits of their places, the lowest first, as the layers have split them up; beside them, their lifts.
    rows = upper.view(2, 2, 2, CHANNELS).permute(2, 1, 0, 3)
    lifted = LIFT * rows.sum(3)[:, :, 0]
    taps = torch.cat([rows.flatten(2), -lifted[:, :, None]], 2).flatten()
    kernel, bias = layers["4.weight"], layers["4.bias"]
    kernel[:, 0], bias[0] = 0, LIFT
    kernel[:used, 0, 1] = taps
    layers["5.weight"].zero_()[0, 0] = 1
    layers["5.bias"].fill_(-LIFT)
    return HALVES["decode"].flatten(layers)
