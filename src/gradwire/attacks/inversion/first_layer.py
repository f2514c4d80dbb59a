"""The first layer of a network with trainable parameters, and what happens to an image before it."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.wire.view import Mode

EXACT = 1e-9
"""Relative error, in float64, up to which what precedes the layer counts as one scale and one offset a pixel."""


@dataclass(frozen=True)
class FirstLayer:
    """A linear layer that sees a·x + c of every pixel x.

    Attributes:
        weight: the parameter's name, and `bias` of the other.
        scale: a, float64, shape (C·H·W,): 1/std behind a `Normalize`.
        offset: c, of the same shape.
    """

    weight: str
    bias: str
    scale: Tensor
    offset: Tensor

    @classmethod
    def of(cls, model: nn.Module, mode: Mode, shape: tuple[int, ...]) -> "FirstLayer":
        """Find the layer, and read a and c off by sending probes through what comes before it.

        The network is never run beyond the layer, so that bottlenecks and noise behind it do not matter.

        Args:
            mode: how victims ran the network.
            shape: (B, C, H, W) of a victim's batch.

        Raises:
            GradwireError: the first layer with trainable parameters is no linear layer with a bias, or pixels do not
                reach it one by one.
        """
        network = set_mode(copied(model).to("cpu", torch.float64), mode)
        random = torch.Generator().manual_seed(0)
        pixels = torch.rand(2, *shape[1:], generator=random, dtype=torch.float64)
        name, layer, reached = _reach(network, pixels)
        if not isinstance(layer, nn.Linear):
            kind = type(layer).__name__
            raise GradwireError(
                f"analytic needs a first layer with parameters that is Linear; {name!r} is {kind}: try iga"
            )
        if (
            layer.bias is None
            or "weight" not in layer._parameters
            or not (layer.weight.requires_grad and layer.bias.requires_grad)
        ):
            raise GradwireError(f"analytic needs the gradients of a weight and a bias; {name!r} lacks one")
        if reached.shape == (2, prod(shape[1:])):
            zero, one = (_reach(network, torch.full_like(pixels, value))[2] for value in (0.0, 1.0))
            scale, offset = (one - zero)[0], zero[0]
            off = (scale * pixels.flatten(1) + offset - reached).abs().max()
            if off <= EXACT * reached.abs().max() and (scale != 0).all():
                return cls(f"{name}.weight".lstrip("."), f"{name}.bias".lstrip("."), scale, offset)
        raise GradwireError(f"analytic needs every pixel to reach {name!r} by itself; what comes before it mixes them")

    def pixels(self, inputs: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The images (R, C, H, W) that made inputs (R, C·H·W) of the layer; not clamped."""
        return ((inputs - self.offset) / self.scale).view(-1, *shape[1:])


class _Reached(Exception):
    """Ends a forward pass at the layer that was looked for."""

    def __init__(self, layer: nn.Module, inputs: Tensor):
        self.layer, self.inputs = layer, inputs


def _reach(network: nn.Module, images: Tensor) -> tuple[str, nn.Module, Tensor]:
    """Name, layer and its input, where images first meet a trainable parameter."""

    def stop(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        raise _Reached(layer, arguments[0])

    own = {m: name for name, m in network.named_modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    hooks = [module.register_forward_pre_hook(stop) for module in own]
    try:
        with torch.no_grad():
            network(images)
    except _Reached as reached:
        return own[reached.layer], reached.layer, reached.inputs
    finally:
        for hook in hooks:
            hook.remove()
    raise GradwireError(f"analytic finds no layer of {type(network).__name__} that has trainable parameters")
