"""Normalisation layers in plain operations and two steps: x̂, then γ·x̂ + β, from which their gradients come.

PyTorch's fused kernels save mean and variance as constants: under `torch.func.vmap` the second derivative of batch,
layer and instance norm is then silently wrong (2.13; the engine's tests show it).
"""

from functools import partial

import torch
from torch import Tensor, nn

from gradwire.schemes.gradients import Full, Gradient

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm)
"""The types of layers that are replaced; not their subclasses, which may compute something else."""


def normalise(layer: nn.Module, x: Tensor, victims: int = 1) -> Tensor:
    """x̂, of the shape of x: (V·B, …) for V victims.

    Batch norm in training mode (or without running statistics) takes each victim's own mean and biased variance.
    """
    if isinstance(layer, nn.LayerNorm):
        return _standardise(x, tuple(range(-len(layer.normalized_shape), 0)), layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return _standardise(x.unflatten(1, (layer.num_groups, -1)).flatten(2), (2,), layer.eps).view(x.shape)
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d)
    if not layer.training and layer.running_mean is not None and layer.running_var is not None:
        shape = (1, -1, *([1] * (x.ndim - 2)))
        mean, variance = layer.running_mean.view(shape), layer.running_var.view(shape)
        return (x - mean) * torch.rsqrt(variance + layer.eps)
    if isinstance(layer, nn.InstanceNorm2d):
        return _standardise(x, (2, 3), layer.eps)
    split = x.unflatten(0, (victims, -1))
    return _standardise(split, (1, *range(3, split.ndim)), layer.eps).view(x.shape)


def scale(layer: nn.Module, normalised: Tensor) -> Tensor:
    """γ·x̂ + β, where the layer has an affine step."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if weight is None:
        return normalised
    if not isinstance(layer, nn.LayerNorm):
        shape = (1, -1, *([1] * (normalised.ndim - 2)))
        weight, bias = weight.view(shape), None if bias is None else bias.view(shape)
    scaled = normalised * weight
    return scaled if bias is None else scaled + bias


def affine(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """The rule of γ·x̂ + β: ∂γ = Σ δ·x̂, ∂β = Σ δ, over a victim's examples and the positions that share a parameter."""
    gradients: dict[str, Gradient] = {}
    for name, product in (("weight", slope * inputs), ("bias", slope)):
        parameter = getattr(layer, name, None)
        if parameter is None:
            continue
        split = product.reshape(victims, -1, *product.shape[1:])
        if isinstance(layer, nn.LayerNorm):
            summed = split.reshape(victims, -1, *parameter.shape).sum(1)
        else:
            summed = split.flatten(3).sum((1, 3)) if split.ndim > 3 else split.sum(1)
        gradients[name] = Full(summed)
    return gradients


def spell_out(network: nn.Module) -> None:
    """Make normalisation layers of a network compute in plain operations, in place."""
    for module in network.modules():
        if type(module) in NORMS:
            module.forward = partial(_forward, module)


def _forward(layer: nn.Module, x: Tensor) -> Tensor:
    return scale(layer, normalise(layer, x))


def _standardise(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps)
