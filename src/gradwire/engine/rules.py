"""How each type of layer's parameter gradient is made of what flows through the layer.

A layer that computes y from a, with δ = ∂L/∂y, has gradients that are products of δ and a; one batched forward pass
and one backward pass to the layer *outputs* give both for all victims at once. Each rule turns one call of a layer,
seen as its input and the slope at its output for V·B examples, into gradients of V victims.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gradwire.engine.convolution import conv2d
from gradwire.engine.linear import linear
from gradwire.engine.norms import NORMS, affine
from gradwire.schemes.gradients import Full, Gradient

Rule = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Gradient]]
"""(layer, input, slope at the output, V) → the layer's own parameter name → gradient."""


def embedding(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """Row i collects the slopes at the places where i was looked up."""
    assert isinstance(layer, nn.Embedding)
    looked_up = inputs.reshape(victims, -1)
    delta = slope.reshape(victims, looked_up.shape[1], -1)
    if layer.padding_idx is not None:
        delta = delta * (looked_up != layer.padding_idx).unsqueeze(-1)
    empty = torch.zeros(victims, *layer.weight.shape, dtype=slope.dtype, device=slope.device)
    index = looked_up.unsqueeze(-1).expand_as(delta)
    return {"weight": Full(empty.scatter_add(1, index, delta))}


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
    **dict.fromkeys(NORMS, affine),
    nn.Embedding: embedding,
}


def unsupported(layer: nn.Module) -> str | None:
    """Why the gradients of a layer with parameters cannot be made by these rules, or None."""
    kind = type(layer)
    if kind not in RULES:
        return f"{kind.__name__} has parameters of its own"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"Conv2d pads with {layer.padding_mode!r}"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse):
        return "Embedding renormalises, rescales or has sparse gradients"
    return None
