"""What an autoencoder makes of parameters near others, to first order: one banded product, for a round's many steps.

A code of 4 numbers depends on its own 16 numbers of the vector and those before, and 16 numbers of the output on their
own code and those beside it (`network`). So the derivative of each half is a band of small blocks, found by 8 passes
through the encoder and 12 through the decoder, about as dear as six steps through both. All tensors of a model are one
row of blocks here, with nothing between two tensors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.schemes.codec import network
from gradwire.schemes.codec.layers import Layers
from gradwire.schemes.codec.network import CHANNELS, SHRINK

AFFINE = ("at", "made", "encoding", "decoding")
"""Its state: parameters (N,), what the codec makes of them, (B, 4, 32) and (B, 16, 12) derivatives of B blocks."""


def tangent(weights: Tensor, parameters: Tensor, layers: Layers) -> dict[str, Tensor]:
    """The autoencoder at these parameters (N,)."""
    encoder, decoder = network.halves(weights.to(parameters))
    made, bands = [], []
    with torch.enable_grad():
        for vector in layers.vectors(parameters.detach()).values():
            vector = vector.requires_grad_()
            code = network.encode(encoder, vector)
            encoding = _encoding(vector, code)
            code = code.detach().requires_grad_()
            output = network.decode(decoder, code, SHRINK * code.numel() // CHANNELS)
            made.append(output.detach()[: len(vector)])
            bands.append((encoding, _decoding(code, output)))
    encoding, decoding = (torch.cat(each).detach() for each in zip(*bands, strict=True))
    whole = layers.base + torch.cat(made) * layers.scale
    return {"at": parameters.detach(), "made": whole, "encoding": encoding, "decoding": decoding}


def response(state: Mapping[str, Tensor], parameters: Tensor, layers: Layers) -> Tensor:
    """What it makes of parameters (N,) near those of `tangent`."""
    moved = layers.vectors(parameters - state["at"] + layers.base).values()
    blocks = torch.cat([pad(vector, (0, -len(vector) % SHRINK)) for vector in moved]).view(-1, SHRINK)
    before = pad(blocks[:-1], (0, 0, 1, 0))
    code = torch.einsum("bij,bj->bi", state["encoding"], torch.cat([before, blocks], 1))
    beside = pad(code[:-1], (0, 0, 1, 0)), code, pad(code[1:], (0, 0, 0, 1))
    change = torch.einsum("bij,bj->bi", state["decoding"], torch.cat(beside, 1)).flatten()
    parts = change.split([len(vector) + -len(vector) % SHRINK for vector in moved])
    kept = torch.cat([part[: len(vector)] for part, vector in zip(parts, moved, strict=True)])
    return state["made"] + kept * layers.scale


def _encoding(vector: Tensor, code: Tensor) -> Tensor:
    """The code's derivative: of every other block at a time, as codes of neighbours have numbers in common."""
    blocks = code.numel() // CHANNELS
    found = vector.new_zeros(blocks, CHANNELS, 2 * SHRINK)
    for first in range(min(2, blocks)):
        for channel in range(CHANNELS):
            chosen = code.new_zeros(CHANNELS, blocks)
            chosen[channel, first::2] = 1
            (slope,) = torch.autograd.grad(code, vector, chosen.flatten(), retain_graph=True)
            rows = pad(slope, (SHRINK, -len(vector) % SHRINK)).view(-1, SHRINK)
            found[first::2, channel] = torch.cat([rows[:-1], rows[1:]], 1)[first::2]
    return found


def _decoding(code: Tensor, output: Tensor) -> Tensor:
    """The output's derivative along every third code at a time: what is linear in a slope, differentiated by it."""
    blocks = code.numel() // CHANNELS
    found = code.new_zeros(blocks, SHRINK, 3 * CHANNELS)
    slope = torch.zeros_like(output).requires_grad_()
    (back,) = torch.autograd.grad(output, code, slope, create_graph=True)
    for first in range(min(3, blocks)):
        for channel in range(CHANNELS):
            along = code.new_zeros(CHANNELS, blocks)
            along[channel, first::3] = 1
            (rows,) = torch.autograd.grad(back, slope, along.flatten(), retain_graph=True)
            for number, neighbour in enumerate((-1, 0, 1)):
                own = slice((first - neighbour) % 3, None, 3)
                found[own, :, number * CHANNELS + channel] = rows.view(-1, SHRINK)[own]
    return found
