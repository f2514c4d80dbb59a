"""Many networks of one architecture as one batch, each with its own parameters, buffers, data and loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from gradwire.engine.choice import Chosen, choose, unfused
from gradwire.engine.layered import Layered, Losses, Rowwise, means
from gradwire.engine.networks import Networks, Slopes, Stacked
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, failure, floating, forward, in_mode, set_mode, slopes
from gradwire.wire.view import Mode

StackPath = Callable[[Networks, Tensor, Tensor, Tensor], Slopes]
"""(networks, images (N, B, C, H, W), labels (N, B), weights (N, B)) → slopes. Weights of 0 leave examples out."""
each: Losses = partial(cross_entropy, reduction="none")
BUSY = 2_000_000
"""Floating-point operations in the convolutions of one image beyond which one network keeps a CPU's core busy: small
convolutions of several networks are faster as one product, large ones lose more by the copies for it."""


class FunctionalStack:
    """All networks at once under `torch.func.vmap`."""

    def __init__(self, model: nn.Module, mode: Mode, losses: Losses):
        network = self._network = set_mode(copied(model), mode)

        def value(
            parameters: Stacked, buffers: Stacked, images: Tensor, labels: Tensor, weights: Tensor
        ) -> tuple[Tensor, Stacked]:
            kept = {name: b.clone() for name, b in buffers.items()}
            logits = forward(network, images, {**parameters, **kept})
            return means(losses(logits, labels), weights), kept

        self._slopes = vmap(grad_and_value(value, has_aux=True), randomness="different")

    def __call__(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network."""
        with unfused(self._network):
            found, (losses, buffers) = self._slopes(networks.parameters, networks.buffers, images, labels, weights)
        return Slopes(losses.detach(), found, buffers)


class PlainStack:
    """One network after another, each with its own examples only, without padding."""

    def __init__(self, model: nn.Module, mode: Mode, losses: Losses):
        self._network, self._losses = set_mode(copied(model), mode), losses

    def __call__(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network; zeros, and the buffers as they were, where all its weights are zero."""
        losses = images.new_zeros(len(networks))
        gradients = {name: torch.zeros_like(p) for name, p in networks.parameters.items()}
        buffers = {name: b.clone() for name, b in networks.buffers.items()}
        for index, weight in enumerate(weights):
            own = weight != 0
            if not own.any():
                continue
            parameters = {name: p[index].detach().requires_grad_() for name, p in networks.parameters.items()}
            kept = {name: b[index] for name, b in buffers.items()}
            logits = forward(self._network, images[index, own], {**parameters, **kept})
            value = means(self._losses(logits, labels[index, own]), weight[own])
            losses[index] = value.detach()
            for name, slope in slopes(value, parameters).items():
                gradients[name][index] = slope
        return Slopes(losses, gradients, buffers)


STACK_PATHS: Mapping[str, Callable[[nn.Module, Mode, Losses], StackPath]] = {
    "rowwise": Rowwise,
    "layered": Layered,
    "functional": FunctionalStack,
    "plain": PlainStack,
}
"""The others are compared with the last one."""


@dataclass(frozen=True)
class Stack(Chosen[StackPath]):
    """The path by which many networks of one architecture run.

    Attributes:
        precision: of the forward and backward products; "bf16" keeps parameters and gradients in float32.
    """

    what: ClassVar[str] = "networks run together"

    precision: Literal["fp32", "bf16"] = "fp32"

    def slopes(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor | None = None) -> Slopes:
        """Losses, gradients and buffers of N networks, each on a batch of its own.

        Args:
            images: shape (N, B, C, H, W), on the networks' device.
            labels: int64, shape (N, B).
            weights: of the examples, shape (N, B); 0 leaves one out, so that batches of fewer than B examples can be
                padded with anything. By default all are equal.
        """
        images = images.to(next(iter(networks.parameters.values())).dtype)
        weights = images.new_ones(labels.shape) if weights is None else weights.to(images)
        if self.precision == "fp32":
            return self.run(networks, images, labels, weights)
        if isinstance(self.run, Layered):
            return self.run(networks, images.bfloat16(), labels, weights)
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.run(networks, images, labels, weights)

    @property
    def draws_apart(self) -> bool:
        """Whether each network draws from its own generator in `Networks.draws` only."""
        return isinstance(self.run, Layered) and self.run.draws_apart


def stack(
    model: nn.Module,
    shape: tuple[int, int, int],
    mode: Mode = "train",
    losses: Losses = each,
    *,
    ragged: bool = False,
    device: str = "cpu",
    path: str | None = None,
) -> Stack:
    """The path for many networks of this architecture.

    Paths are compared by the losses, gradients and buffers of two networks on random batches.

    Args:
        model: the architecture; its parameters do not matter.
        shape: (C, H, W) of an image.
        losses: one an example.
        ragged: whether there will be weights of 0. Models that mix examples (batch norm while training) then run one
            after another, because padding would change their results.
        path: the name of a path to take untried.
    """
    if path is not None:
        return Stack(STACK_PATHS[path](model, mode, losses), path)

    def probe(name: str, model: nn.Module) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, *shape, generator=random, dtype=torch.float64)
        labels = torch.randint(2, (2, 3), generator=random)
        weights = torch.ones(2, 3)
        if ragged:
            weights[1, 2] = 0
        networks = Networks.repeat(model, 2)
        for tensor in networks.parameters.values():
            tensor += 0.01 * torch.rand(tensor.shape, generator=random, dtype=torch.float64)
        found = Stack(STACK_PATHS[name](model, mode, losses), name).slopes(networks, images, labels, weights)
        return {"the losses": found.losses, **found.gradients, **found.buffers}

    wrong = "padding changes" if ragged else "it is wrong for"
    name, reasons = choose(_by_speed(model, shape, device), probe, copied(model).cpu(), wrong)
    return Stack(STACK_PATHS[name](copied(model).to(device), mode, losses), name, reasons)


def _by_speed(model: nn.Module, shape: tuple[int, int, int], device: str) -> Sequence[str]:
    """Names of paths, the fastest for this model first."""
    if torch.device(device).type != "cpu":
        return "functional", "layered", "plain"
    if busy(model, shape):
        return "rowwise", "plain"
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return "layered" if convolutional else "rowwise", "functional", "plain"


def busy(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether one network on the CPU keeps a core of it busy."""
    image = torch.zeros(1, *shape, dtype=floating(model))
    try:
        with FlopCounterMode(display=False) as counter, in_mode(model, "eval"), torch.no_grad():
            model(image)
    except Exception as error:
        raise GradwireError(f"model fails on an image of shape {shape} in eval mode: {failure(error)}") from error
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) > BUSY
