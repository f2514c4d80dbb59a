"""The weights of an untrained autoencoder: random, or those of an orthogonal projection that keeps a quarter.

The paper does not say. `uniform` draws every weight as PyTorch's layers do. The output of such an autoencoder is almost
nothing, and what it learns first depends on the parameters at hand.

`projection` makes the same layers compute B·Bᵀ of every 16 numbers in a row, for a 16×4 matrix B of random orthonormal
columns. This map is linear, so that steps through it go where they should; it does not change its own output, so that
errors do not add up; and it is the same for all clients, so that the mean of their outputs is one too. Of weights that
nobody has seen, which are noise, no linear autoencoder keeps more. No column of B has a mean: the loss is steepest in
equal changes of all weights of a row, as inputs are mostly positive, and would keep all other steps short.

Leaky ReLUs are linear here because every number is lifted above zero by `LIFT`.
"""

from math import sqrt

import torch
from torch import Tensor

from gradwire.schemes.codec.network import CHANNELS, DECODER, ENCODER, HALVES, SHRINK

LIFT = 6.0
"""In units of the numbers' root mean square. A leaky ReLU bends numbers below −LIFT."""
HALF = SHRINK // 2


def uniform(random: torch.Generator) -> Tensor:
    """Weights drawn as PyTorch's layers have them."""
    return torch.cat([drawn(half, random) for half in HALVES])


def drawn(half: str, random: torch.Generator) -> Tensor:
    """A half's untrained weights: uniform within ±1/√(inputs · kernel), as in PyTorch's layers."""
    weights, bound = {}, 1.0
    for name, shape in HALVES[half].shapes.items():
        if len(shape) == 3:  # a bias has the bound of the weight before it
            bound = 1 / sqrt(shape[1] * shape[2])
        weights[name] = (2 * torch.rand(shape, generator=random) - 1) * bound
    return HALVES[half].flatten(weights)


def projection(random: torch.Generator) -> Tensor:
    """Weights of an orthogonal projection. Channels that it does not use are those of `uniform`."""
    upper, lower = block(random)
    return torch.cat([_encoder(drawn("encode", random), upper, lower), _decoder(drawn("decode", random), upper)])


def block(random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows 0 to 7 and 8 to 15 of B, shape (8, 4) each."""
    upper = _columns(random)
    return upper, upper.roll(1, 1)  # the same, with the code's channels in another order


def _columns(random: torch.Generator) -> Tensor:
    """The first eight rows of B, shape (8, 4).

    A code is lifted too, all of its channels alike, so that a multiple of B's row sums has to be subtracted again. The
    decoder knows the place of a number in a block but for the two highest bits, so that the sums of rows 0 to 3 have to
    be those of rows 4 to 7.
    """
    free, mean = torch.randn(HALF, CHANNELS, generator=random), torch.full((HALF, 1), 1.0)
    free[:, 0] = free[: HALF // 2, 0].repeat(2)
    # The first column of Q is the mean, and the second is the one that repeats itself.
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
    """Four layers that give each half of a block channels of its own, and one that multiplies by B.

    The first has no channel to spare: the lower half's code is that of the upper half with its channels rolled. The
    others also have a channel of ones, which is split up in its turn and so tells the places apart.
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
    # Rows by the bits of their places, the lowest first, as the layers have split them up; and their lifts.
    rows = upper.view(2, 2, 2, CHANNELS).permute(2, 1, 0, 3)
    lifted = LIFT * rows.sum(3)[:, :, 0]
    taps = torch.cat([rows.flatten(2), -lifted[:, :, None]], 2).flatten()
    kernel, bias = layers["4.weight"], layers["4.bias"]
    kernel[:, 0], bias[0] = 0, LIFT
    kernel[:used, 0, 1] = taps
    layers["5.weight"].zero_()[0, 0] = 1
    layers["5.bias"].fill_(-LIFT)
    return HALVES["decode"].flatten(layers)
