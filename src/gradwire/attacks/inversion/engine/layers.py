"""How each kind of layer's parameter gradient is made of what flows through the layer.

A layer that computes y from a, with δ = ∂L/∂y, has gradients that are products of δ and a; one batched forward pass
and one backward pass to the layer *outputs* give both for all victims at once. Each function here turns one call of
a layer, seen as its input and the slope at its output for V·B examples, into gradients of V victims.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gradwire.attacks.inversion.engine.factored import Factored
from gradwire.attacks.inversion.engine.unfolding import unfold
from gradwire.schemes.gradients import Full, Gradient

Gradients = dict[str, Gradient]
Rule = Callable[[nn.Module, Tensor, Tensor, int], Gradients]
"""(layer, input, slope at the output, V) → the layer's own parameter name → gradient."""


def linear(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> Gradients:
    """y = W·a + b at every position: G = Σ δ·aᵀ."""
    a, delta = (t.reshape(victims, -1, t.shape[-1]).mT for t in (inputs, slope))
    return _weighted(layer, delta, a)


def conv2d(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> Gradients:
    """y = W·U with U the unfolded input: a linear layer at every position, group by group."""
    assert isinstance(layer, nn.Conv2d)
    unfolded = _unfold(layer, inputs)
    if layer.groups == 1:
        a, delta = (_victims(t, victims) for t in (unfolded, slope.flatten(2)))
        return _weighted(layer, delta, a)
    # A group is a layer of its own; as their weights are small, the gradient is formed.
    shape = (victims, len(inputs) // victims, layer.groups, -1, unfolded.shape[-1])
    weight = torch.einsum("vbgol,vbgkl->vgok", slope.reshape(shape), unfolded.reshape(shape))
    gradients: Gradients = {"weight": Full(weight.reshape(victims, *layer.weight.shape))}
    if layer.bias is not None:
        gradients["bias"] = Full(_victims(slope.flatten(2), victims).sum(2))
    return gradients


def affine(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> Gradients:
    """y = γ·x̂ + β, with the input already normalised: ∂γ = Σ δ·x̂, ∂β = Σ δ."""
    gradients: Gradients = {}
    for name, product in (("weight", slope * inputs), ("bias", slope)):
        parameter = getattr(layer, name, None)
        if parameter is not None:
            gradients[name] = Full(_reduce(product, parameter, layer, victims))
    return gradients


def embedding(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> Gradients:
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
    nn.BatchNorm1d: affine,
    nn.BatchNorm2d: affine,
    nn.GroupNorm: affine,
    nn.InstanceNorm2d: affine,
    nn.LayerNorm: affine,
    nn.Embedding: embedding,
}


def unsupported(layer: nn.Module) -> str | None:
    """Why a layer's gradients cannot be made by these rules, or None."""
    kind = type(layer)
    if kind not in RULES:
        return f"{kind.__name__} has parameters of its own"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"Conv2d pads with {layer.padding_mode!r}"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse):
        return "Embedding renormalises, rescales or has sparse gradients"
    return None


def _weighted(layer: nn.Module, delta: Tensor, a: Tensor) -> Gradients:
    """Gradients of a weight and a bias from δ (V, n, positions) and a (V, m, positions)."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    gradients: Gradients = {"weight": Factored(delta, a, tuple(layer.weight.shape))}
    if layer.bias is not None:
        gradients["bias"] = Full(delta.sum(2))
    return gradients


def _victims(x: Tensor, victims: int) -> Tensor:
    """(V·B, C, L) → (V, C, B·L)."""
    if len(x) == victims:
        return x
    return x.unflatten(0, (victims, -1)).transpose(1, 2).flatten(2)


def _reduce(product: Tensor, parameter: Tensor, layer: nn.Module, victims: int) -> Tensor:
    """Sum over a victim's examples, and over the positions that share a parameter."""
    split = product.reshape(victims, -1, *product.shape[1:])
    if isinstance(layer, nn.LayerNorm):
        return split.reshape(victims, -1, *parameter.shape).sum(1)
    return split.flatten(3).sum((1, 3)) if split.ndim > 3 else split.sum(1)


def _unfold(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C·k·k, positions)."""
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "same", "valid"):
        return x.flatten(2)
    return unfold(pad(x, _margins(layer)), layer.kernel_size, layer.dilation, layer.stride)  # type: ignore[arg-type]


def _margins(layer: nn.Conv2d) -> list[int]:
    """What a convolution pads its input with: left, right, top, bottom."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        # PyTorch puts the odd one at the far side.
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    assert not isinstance(layer.padding, str)
    down, across = layer.padding
    return [across, across, down, down]
