"""A codec of a whole model: every parameter tensor goes through it by itself, divided by its size.

Its size is its root mean square as the round begins, which all parties know: an autoencoder that has to learn how large
weights are takes many times as long. Where a round's change is coded, its size is sent with the code. Parameters are
one flat vector here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vjp, vmap

from gradwire.errors import GradwireError
from gradwire.schemes.codec import bare, network
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Term
from gradwire.schemes.round import Round


@dataclass(frozen=True)
class Codec:
    """What encodes and decodes one vector: functions of weights, as `network` has them.

    Attributes:
        halves: the encoder's and the decoder's part of the weights; `size`, how many numbers the decoder's holds.
        rebuilt: what both make of a vector.
    """

    halves: Callable[[Tensor], tuple[Tensor, Tensor]]
    encode: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor, Tensor, int], Tensor]
    rebuilt: Callable[[Tensor, Tensor], Tensor]
    size: int


NETWORK = Codec(network.halves, network.encode, network.decode, network.rebuilt, network.HALVES["decode"].size)
BARE = Codec(bare.halves, bare.encode, bare.decode, bare.rebuilt, bare.SIZE)


@dataclass(frozen=True)
class Layers:
    """A model's tensors as a codec sees them in a round.

    Attributes:
        layout: of the parameters; empty ones are left out.
        base: what is subtracted from the parameters, shape (N,) or (): zero, or those that the round begins with.
        sizes: of the tensors, shape (T,), and `scale`, the same for each number, shape (N,): divided by that they are
            of size 1.
    """

    layout: Layout
    codec: Codec
    base: Tensor
    sizes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, round: Round, codec: Codec = NETWORK) -> "Layers":
        """Those of a round, of which the parameters themselves are coded, by their sizes as the round begins."""
        start = beginning(round)
        return cls._sized(round, codec, start.new_zeros(()), sizes(round.layout, start))

    @classmethod
    def of_update(cls, round: Round, codec: Codec, sizes: Tensor) -> "Layers":
        """Those of a round of which the parameters' change is coded; `sizes` are those of its tensors."""
        return cls._sized(round, codec, beginning(round).to(sizes.device), sizes)

    @classmethod
    def _sized(cls, round: Round, codec: Codec, base: Tensor, sizes: Tensor) -> "Layers":
        layout = round.layout.part(code_sizes(round.layout))
        lengths = torch.tensor(list(layout.sizes.values()), device=sizes.device)
        return cls(layout, codec, base, sizes, sizes.where(sizes > 0, 1).repeat_interleave(lengths))

    def vectors(self, parameters: Tensor) -> dict[str, Tensor]:
        """The codec's inputs: a vector for each tensor."""
        scaled = (parameters - self.base) / self.scale
        return {name: tensor.reshape(-1) for name, tensor in self.layout.unflatten(scaled).items()}

    def encode(self, weights: Tensor, parameters: Tensor) -> Tensor:
        """The tensors' codes, one after another, shape (sum of `code_sizes`,). Equations 5 and 6."""
        encoder, _ = self.codec.halves(weights.to(parameters))
        return torch.cat([self.codec.encode(encoder, vector) for vector in self.vectors(parameters).values()])

    def decode(self, decoder: Tensor, code: Tensor) -> Tensor:
        """The parameters that a code stands for. Equations 7 and 8."""
        lengths, codes = self.layout.sizes, self.codes(code).items()
        made = [self.codec.decode(decoder.to(code), each, lengths[name]) for name, each in codes]
        return self.base + torch.cat(made) * self.scale

    def codes(self, code: Tensor) -> dict[str, Tensor]:
        """Every tensor's part of a code."""
        sizes = code_sizes(self.layout)
        return dict(zip(sizes, code.split(list(sizes.values())), strict=True))

    def preimage(self, weights: Tensor, parameters: Tensor) -> Tensor:
        """Parameters near these of which the autoencoder makes about these."""
        vectors = self.vectors(parameters).items()
        found = {name: network.preimage(partial(self.codec.rebuilt, weights.to(v)), v) for name, v in vectors}
        return self.base + self.layout.flatten(found) * self.scale


def sizes(layout: Layout, vector: Tensor) -> Tensor:
    """The root mean square of each tensor that is not empty, shape (T,)."""
    return torch.stack([t.square().mean().sqrt() for t in layout.unflatten(vector).values() if t.numel()])


def code_sizes(layout: Layout) -> dict[str, int]:
    """Numbers in the code of each tensor that is not empty."""
    return {name: network.code_size(length) for name, length in layout.sizes.items() if length}


def beginning(round: Round) -> Tensor:
    """The parameters that a round begins with, shape (N,).

    Raises:
        GradwireError: the round does not say.
    """
    if round.start is None:
        raise GradwireError("autoencoder sends parameters; it has to be told those that the round begins with")
    return round.layout.flatten(round.start)


@dataclass(frozen=True)
class Tangent(Term):
    """What a code tells of a change, its projection on the directions in which the decoder can move: A(G) = Jᵀ·G.

    J is the derivative of the decoder, one of `codec`, at the code.

    Attributes:
        observed: shape (V, C).
        code: at which the derivative is taken, shape (V, C).
        weights: of the decoders, shape (V, W).
    """

    codec: ClassVar[Codec] = NETWORK
    code: Tensor
    weights: Tensor

    def apply(self, gradient: Gradient) -> Tensor:
        """Jᵀ·G, by one backward pass through each victim's decoder."""
        return vmap(partial(pulled, codec=self.codec))(self.weights, self.code, gradient.full().flatten(1))


@dataclass(frozen=True)
class BareTangent(Tangent):
    """The same of the bare projection, wherever the code is."""

    codec: ClassVar[Codec] = BARE


def pulled(weights: Tensor, code: Tensor, change: Tensor, codec: Codec = NETWORK) -> Tensor:
    """Jᵀ·change, for a change (N,) of what a code (C,) stands for; shape (C,)."""
    return vjp(lambda z: codec.decode(weights, z, len(change)), code)[1](change)[0]
