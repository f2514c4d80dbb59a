"""All networks at once, layer by layer: batched matrix products where there are parameters, autograd in between.

On a CPU this is what makes a cohort of small networks fast: under vmap their convolutions become grouped ones, for
which there are no good kernels there. The gradient of a linear layer's weight is never formed (`Outer`).
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, max_pool3d

from gradwire.training.stack.affine import Gradient, Linear, Unsupported
from gradwire.training.stack.convolution import Conv2d
from gradwire.training.stack.networks import Networks, Slopes
from gradwire.training.stack.paths import Losses, each, means
from gradwire.wire.view import Mode

Follower = Callable[[Tensor], Tensor]
"""A layer without parameters, on (N, C, H, W, B) or (N, features, B)."""
AFFINE = {nn.Linear: Linear, nn.Conv2d: Conv2d}
"""Kinds of layers that have parameters, and how they are run."""
ENTRYWISE = (nn.ReLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Identity, nn.Dropout)


class Layered:
    """Networks that are a sequence of layers: linear ones and convolutions, and such as have no parameters."""

    def __init__(self, model: nn.Module, mode: Mode = "train", losses: Losses = each):
        network = copy.deepcopy(model).train(mode == "train")
        if any(not p.requires_grad for p in network.parameters()):
            raise Unsupported("some parameters are frozen")
        self._losses = losses
        self._lead: list[nn.Module] = []
        self._layers: list[tuple[str, Linear | Conv2d, list[Follower]]] = []
        for name, layer in _sequence("", network):
            if type(layer) in AFFINE:
                self._layers.append((name, AFFINE[type(layer)](layer), []))
            elif any(True for _ in layer.parameters()):
                raise Unsupported(f"{type(layer).__name__} has parameters of its own")
            elif self._layers:
                self._layers[-1][2].append(_follower(layer))
            else:
                self._lead.append(layer)
        if not self._layers:
            raise Unsupported("there is no layer with parameters")

    def __call__(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network."""
        with torch.no_grad():
            x = images.flatten(0, 1)
            for layer in self._lead:
                x = layer(x)
            x = x.unflatten(0, labels.shape).movedim(1, -1)
        passed: list[tuple[Tensor, Tensor, Any]] = []
        for name, affine, followers in self._layers:
            weight, bias = self._own(networks, name, affine)
            with torch.no_grad():
                z, kept = affine.forward(x, weight, bias)
            with torch.enable_grad():
                y = z.requires_grad_()
                for follower in followers:
                    y = follower(y)
            passed.append((z, y, kept))
            x = y.detach()
        with torch.enable_grad():
            logits = passed[-1][1].mT
            losses = means(self._losses(logits.flatten(0, 1), labels.flatten()).view(labels.shape), weights)
            top = losses.sum()
        gradients: dict[str, Gradient] = {}
        slope = None
        for (name, affine, _), (z, y, kept) in zip(reversed(self._layers), reversed(passed), strict=True):
            below = torch.autograd.grad(top if slope is None else y, z, slope)[0]
            weight, _ = self._own(networks, name, affine)
            of_weight, of_bias = affine.gradients(below, kept)
            gradients |= {f"{name}.weight": of_weight} | ({f"{name}.bias": of_bias} if affine.biased else {})
            if name != self._layers[0][0]:
                slope = affine.back(below, weight, kept)
        return Slopes(losses.detach(), {name: gradients[name] for name in networks.parameters}, networks.buffers)

    def _own(self, networks: Networks, name: str, affine: Linear | Conv2d) -> tuple[Tensor, Tensor | None]:
        """A layer's weights and biases."""
        bias = networks.parameters[f"{name}.bias"] if affine.biased else None
        return networks.parameters[f"{name}.weight"], bias


def _sequence(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network in the order in which they are applied, with their names."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module.named_children():
        yield from _sequence(f"{name}.{key}" if name else key, child)


def _follower(layer: nn.Module) -> Follower:
    """A layer without parameters, where examples come last."""
    if type(layer) in ENTRYWISE:
        return layer
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
        return lambda x: x.flatten(1, -2)
    if isinstance(layer, nn.MaxPool2d) and not layer.return_indices:
        kernel, stride, padding, dilation = map(_pair, (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
        return lambda x: max_pool3d(x, (*kernel, 1), (*stride, 1), (*padding, 0), (*dilation, 1), layer.ceil_mode)
    if isinstance(layer, nn.AvgPool2d):
        own, step, margin = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
        how = (layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
        return lambda x: avg_pool3d(x, (*own, 1), (*step, 1), (*margin, 0), *how)
    raise Unsupported(f"{type(layer).__name__} is no layer that it knows")


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
