"""An autoencoder of a whole model: every parameter tensor goes through `codec` by itself, divided by its size.

What each is divided by, its root mean square as the round begins, all parties know: an autoencoder that has to learn
how large weights are before it learns what they are takes many times as long. Parameters are one flat vector here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes import codec
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import Round


@dataclass(frozen=True)
class Layers:
    """A model's tensors as an autoencoder sees them in a round.

    Attributes:
        start: the parameters that the round begins with, shape (N,).
        scale: what each parameter is divided by, shape (N,).
    """

    layout: Layout
    start: Tensor
    scale: Tensor

    @classmethod
    def of(cls, round: Round) -> "Layers":
        """Those of a round; where a layer is all zeros it is divided by 1."""
        if round.start is None:
            raise GradwireError("autoencoder sends parameters; it has to be told those that the round begins with")
        means = {name: layer.square().mean().sqrt().expand_as(layer) for name, layer in round.start.items()}
        scale = round.layout.flatten(means)
        return cls(round.layout, round.layout.flatten(round.start), scale.where(scale > 0, 1))

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers in each tensor's code."""
        return {name: codec.code_size(length) for name, length in self.layout.sizes.items()}

    def vectors(self, parameters: Tensor) -> dict[str, Tensor]:
        """What the autoencoder is given: one vector a tensor."""
        return {name: tensor.reshape(-1) for name, tensor in self.layout.unflatten(parameters / self.scale).items()}

    def encode(self, weights: Tensor, parameters: Tensor) -> Tensor:
        """The tensors' codes, one after another, shape (sum of `sizes`,). Equations 5 and 6."""
        encoder, _ = codec.halves(weights.to(parameters))
        return torch.cat([codec.encode(encoder, vector) for vector in self.vectors(parameters).values()])

    def decode(self, decoder: Tensor, code: Tensor) -> Tensor:
        """The parameters that such a code stands for. Equations 7 and 8."""
        parts = zip(code.split(list(self.sizes.values())), self.layout.sizes.values(), strict=True)
        return torch.cat([codec.decode(decoder.to(code), part, length) for part, length in parts]) * self.scale
