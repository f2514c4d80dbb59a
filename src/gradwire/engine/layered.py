"""All networks at once, layer by layer: batched matrix products where there are parameters, autograd in between.

On a CPU this makes a cohort of small networks fast: under vmap their convolutions become grouped ones, which have no
good kernels there. The gradient of a linear layer's weight is not formed (`Factored`). `Layered` has examples last in
memory, for small convolutions; `Rowwise` has them first, for large ones and for none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, dropout, max_pool3d

from gradwire.engine.choice import Unsupported
from gradwire.engine.convolution import ColumnConv2d, RowConv2d
from gradwire.engine.factored import Factored
from gradwire.engine.linear import ColumnLinear, RowLinear
from gradwire.engine.networks import Networks, Slopes
from gradwire.models.mode import copied, set_mode
from gradwire.models.normalize import Normalize
from gradwire.wire.view import Mode

Losses = Callable[[Tensor, Tensor], Tensor]
"""Of logits (B, outputs) and targets (B, …): one an example, (B,)."""
Affine = ColumnLinear | ColumnConv2d | RowConv2d
Follower = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
"""A layer without parameters: (all networks' examples, their generators) → outputs."""
ENTRYWISE = (nn.ReLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Identity)
KNOWN = (*ENTRYWISE, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d)


class Layered:
    """Networks that are a sequence of linear layers, convolutions, and layers without parameters.

    Attributes:
        kinds: types of layers with parameters → their products.
        draws_apart: whether each network draws from its own generator only.
    """

    kinds: Mapping[type[nn.Module], Callable[[Any], Affine]] = {nn.Linear: ColumnLinear, nn.Conv2d: ColumnConv2d}

    def __init__(self, model: nn.Module, mode: Mode, losses: Losses):
        network = set_mode(copied(model), mode)
        if any(not p.requires_grad for p in network.parameters()):
            raise Unsupported("some parameters are frozen")
        self._losses, self.draws_apart = losses, True
        self._lead: list[Follower] = []
        self._layers: list[tuple[str, Affine, list[Follower]]] = []
        for name, layer in _pooled_first(_sequence("", network)):
            kind = type(layer)
            if layer._forward_pre_hooks or layer._forward_hooks:
                raise Unsupported(f"{kind.__name__} has hooks around its forward pass")
            if kind in self.kinds:
                self._layers.append((name, self.kinds[kind](layer), []))
            elif any(True for _ in layer.parameters()):
                raise Unsupported(f"{kind.__name__} has parameters of its own")
            elif kind is nn.Dropout:
                (self._layers[-1][2] if self._layers else self._lead).append(StackedDropout(layer))  # type: ignore[arg-type]
            elif self._layers:
                self._layers[-1][2].append(self.follower(layer))
            else:
                self._lead.append(_rows(layer))
                self.draws_apart &= kind in (*KNOWN, Normalize)
        if not self._layers:
            raise Unsupported("there is no layer with parameters")

    def __call__(self, networks: Networks, inputs: Tensor, targets: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network."""
        with torch.no_grad():
            x = inputs
            for first in self._lead:
                x = first(x, networks.draws)
            x = self.ordered(x)
        passed: list[tuple[Tensor, Tensor, Any]] = []
        for name, layer, followers in self._layers:
            bias = networks.parameters[f"{name}.bias"] if layer.biased else None
            with torch.no_grad():
                z, kept = layer.forward(x, networks.parameters[f"{name}.weight"], bias)
            with torch.enable_grad():
                y = z.requires_grad_()
                for follower in followers:
                    y = follower(y, networks.draws)
            passed.append((z, y, kept))
            x = y.detach()
        with torch.enable_grad():
            found = self.ordered(passed[-1][1], back=True).flatten(0, 1).to(weights.dtype)
            losses = means(self._losses(found, targets.flatten(0, 1)).view(weights.shape), weights)
            top = losses.sum()
        gradients: dict[str, Tensor | Factored] = {}
        slope = None
        for (name, layer, _), (z, y, kept) in zip(reversed(self._layers), reversed(passed), strict=True):
            below = torch.autograd.grad(top if slope is None else y, z, slope)[0]
            weight = networks.parameters[f"{name}.weight"]
            of_weight, of_bias = layer.gradients(below, weight, kept)
            gradients |= {f"{name}.weight": of_weight} | ({f"{name}.bias": of_bias} if layer.biased else {})
            if name != self._layers[0][0]:
                slope = layer.back(below, weight, kept)
        return Slopes(losses.detach(), {name: gradients[name] for name in networks.parameters}, networks.buffers)

    def ordered(self, x: Tensor, back: bool = False) -> Tensor:
        """From (N, B, …) to the memory order of the layers' inputs, or back."""
        return x.movedim(-1, 1) if back else x.movedim(1, -1)

    def follower(self, layer: nn.Module) -> Follower:
        """A layer without parameters, in that order."""
        if type(layer) in ENTRYWISE:
            return lambda x, _: layer(x)
        if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
            return lambda x, _: x.flatten(1, -2)
        if type(layer) is nn.MaxPool2d and not layer.return_indices:
            sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            kernel, stride, padding, dilation = map(_pair, sizes)
            volumes = (*kernel, 1), (*stride, 1), (*padding, 0), (*dilation, 1)
            return lambda x, _: max_pool3d(x, *volumes, layer.ceil_mode)
        if type(layer) is nn.AvgPool2d:
            own, step, margin = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
            how = (layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
            return lambda x, _: avg_pool3d(x, (*own, 1), (*step, 1), (*margin, 0), *how)
        raise Unsupported(f"{type(layer).__name__} is no layer that it knows")


class Rowwise(Layered):
    """The same, with examples first."""

    kinds: Mapping[type[nn.Module], Callable[[Any], Affine]] = {nn.Linear: RowLinear, nn.Conv2d: RowConv2d}

    def ordered(self, x: Tensor, back: bool = False) -> Tensor:
        """As they come."""
        return x

    def follower(self, layer: nn.Module) -> Follower:
        """The layer itself, on all examples as one batch."""
        if type(layer) not in KNOWN:
            raise Unsupported(f"{type(layer).__name__} is no layer that it knows")
        return _rows(_pooling(layer) if isinstance(layer, nn.MaxPool2d) else layer)


class StackedDropout:
    """As `nn.Dropout`, but each network draws from its own generator, whoever else is in the stack."""

    def __init__(self, layer: nn.Dropout):
        self._chance = layer.p if layer.training else 0.0

    def __call__(self, x: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
        """Drop entries of x (N, …) by N generators on the CPU, or, where there are none, by the global one."""
        if not draws or self._chance in (0.0, 1.0):
            return dropout(x, self._chance)
        size = x[0].numel()
        # Random integers of 32 bits, two from each draw, take a fifth of the time of `bernoulli_`.
        words = torch.empty(len(draws), -(-size // 2), dtype=torch.int64)
        for row, generator in zip(words, draws, strict=True):
            row.random_(-(2**63), None, generator=generator)
        least = min(round(self._chance * 2**32), 2**32 - 1) - 2**31
        kept = (words.view(torch.int32)[:, :size] >= least).to(x.device, x.dtype).view(x.shape)
        return x * kept.div_(1 - self._chance)


def means(losses: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the last axis; zero where all weights are."""
    total = weights.sum(-1)
    return (losses * weights).sum(-1) / torch.where(total > 0, total, 1)


def _sequence(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network, with their names, in the order of their application."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module.named_children():
        yield from _sequence(f"{name}.{key}" if name else key, child)


def _pooled_first(layers: Iterable[tuple[str, nn.Module]]) -> Sequence[tuple[str, nn.Module]]:
    """Max-pooling moved before a ReLU that it follows: the same numbers and slopes, from fewer entries."""
    found: list[tuple[str, nn.Module]] = []
    for layer in layers:
        behind = found and type(found[-1][1]) is nn.ReLU and type(layer[1]) is nn.MaxPool2d
        found.insert(len(found) - bool(behind), layer)
    return found


def _rows(layer: Callable[[Tensor], Tensor]) -> Follower:
    """A layer without parameters, on images or features (N, B, …)."""
    return lambda x, _: layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _pooling(layer: nn.MaxPool2d) -> Callable[[Tensor], Tensor]:
    """Max-pooling that meets slopes in the memory format of its inputs: in another one it takes six times as long."""

    def run(x: Tensor) -> Tensor:
        y = layer(x)
        if x.is_contiguous(memory_format=torch.channels_last):
            y.register_hook(lambda slope: slope.contiguous(memory_format=torch.channels_last))
        return y

    return run


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
