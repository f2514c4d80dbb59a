"""What the code of an autoencoder tells of a change: its projection on the directions in which the decoder can move."""

from dataclasses import dataclass

from torch import Tensor
from torch.func import vjp, vmap

from gradwire.schemes.codec import network
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Term


@dataclass(frozen=True)
class Tangent(Term):
    """The gradient as the decoder's directions see it: A(G) = Jᵀ·G, J the decoder's derivative at a code.

    Attributes:
        observed: shape (V, C).
        code: where the derivative is taken, shape (V, C), and `weights` of the decoders, shape (V, W).
    """

    code: Tensor
    weights: Tensor

    def apply(self, gradient: Gradient) -> Tensor:
        """Jᵀ·G, one pass back through the decoder a victim."""
        return vmap(pulled)(self.weights, self.code, gradient.full().flatten(1))


def pulled(weights: Tensor, code: Tensor, change: Tensor) -> Tensor:
    """Jᵀ·change, for a change (N,) of what a code (C,) stands for; shape (C,)."""
    return vjp(lambda z: network.decode(weights, z, len(change)), code)[1](change)[0]
