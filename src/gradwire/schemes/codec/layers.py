"""An autoencoder of a whole model: every parameter tensor goes through the network by itself, divided by its size.

Its size is its root mean square as the round begins, which all parties know: an autoencoder that has to learn how large
weights are takes many times as long. Parameters are one flat vector here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vjp, vmap

from gradwire.errors import GradwireError
from gradwire.schemes.codec import network
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Term
from gradwire.schemes.round import Round


@dataclass(frozen=True)
class Layers:
    """A model's tensors as an autoencoder sees them in a round.

    Attributes:
        layout: of the parameters; empty ones are left out.
        scale: what each parameter is divided by, shape (N,).
    """

    layout: Layout
    scale: Tensor

    @classmethod
    def of(cls, round: Round) -> "Layers":
        """Those of a round. A tensor of zeros is divided by 1."""
        layout = round.layout.part(code_sizes(round.layout))
        tensors = layout.unflatten(beginning(round)).items()
        scale = layout.flatten({name: t.square().mean().sqrt().expand_as(t) for name, t in tensors})
        return cls(layout, scale.where(scale > 0, 1))

    def vectors(self, parameters: Tensor) -> dict[str, Tensor]:
        """The autoencoder's inputs: a vector for each tensor."""
        return {name: tensor.reshape(-1) for name, tensor in self.layout.unflatten(parameters / self.scale).items()}

    def encode(self, weights: Tensor, parameters: Tensor) -> Tensor:
        """The tensors' codes, one after another, shape (sum of `code_sizes`,). Equations 5 and 6."""
        encoder, _ = network.halves(weights.to(parameters))
        return torch.cat([network.encode(encoder, vector) for vector in self.vectors(parameters).values()])

    def decode(self, decoder: Tensor, code: Tensor) -> Tensor:
        """The parameters that a code stands for. Equations 7 and 8."""
        lengths, codes = self.layout.sizes, self.codes(code).items()
        return torch.cat([network.decode(decoder.to(code), each, lengths[name]) for name, each in codes]) * self.scale

    def codes(self, code: Tensor) -> dict[str, Tensor]:
        """Every tensor's part of a code."""
        sizes = code_sizes(self.layout)
        return dict(zip(sizes, code.split(list(sizes.values())), strict=True))

    def preimage(self, weights: Tensor, parameters: Tensor) -> Tensor:
        """Parameters near these of which the autoencoder makes about these."""
        vectors = self.vectors(parameters).items()
        found = {name: network.preimage(weights.to(vector), vector) for name, vector in vectors}
        return self.layout.flatten(found) * self.scale


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

    J is the decoder's derivative at the code.

    Attributes:
        observed: shape (V, C).
        code: at which the derivative is taken, shape (V, C).
        weights: of the decoders, shape (V, W).
    """

    code: Tensor
    weights: Tensor

    def apply(self, gradient: Gradient) -> Tensor:
        """Jᵀ·G, by one backward pass through each victim's decoder."""
        return vmap(pulled)(self.weights, self.code, gradient.full().flatten(1))


def pulled(weights: Tensor, code: Tensor, change: Tensor) -> Tensor:
    """Jᵀ·change, for a change (N,) of what a code (C,) stands for; shape (C,)."""
    return vjp(lambda z: network.decode(weights, z, len(change)), code)[1](change)[0]
