"""Victims who share a network: candidates of V victims → what each would have sent, differentiable in the candidates.

Each sends the gradient of one batch, or what several local steps change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from gradwire.engine.batched import Batched
from gradwire.engine.choice import Chosen, choose, unfused
from gradwire.engine.norms import spell_out
from gradwire.models.bottleneck import VariationalBottleneck
from gradwire.models.mode import NARROW, copied, floating, forward, set_mode, slopes
from gradwire.schemes.gradients import Full, Gradient
from gradwire.wire.view import LocalWork, Loss, Mode

Slope = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
"""(parameters, images (B, C, H, W), labels (B,)) → the gradient."""
GradientPath = Callable[[Tensor, Tensor], dict[str, Gradient]]
"""(images (V, B, C, H, W), labels (V, B)) → parameter name → gradients of V victims."""
THIN = 16
"""On a CPU, products with a weight of fewer rows leave most of the vector units idle (`gradwire bench inversion`)."""


class Functional:
    """The general path: `torch.func.vmap` over `torch.func.grad` of the whole model."""

    def __init__(self, model: nn.Module, mode: Mode, loss: Loss, work: LocalWork | None = None):
        network = self._network = set_mode(copied(model), mode)
        spell_out(network)
        self._trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
        buffers: dict[str, Tensor] = {}
        self._buffers = buffers

        def value(trained: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return loss(forward(network, images, {**trained, **buffers}), labels)

        one = grad(value) if work is None else partial(_descended, grad(value), work)
        self._gradients = vmap(one, in_dims=(None, 0, 0), randomness="different")

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """Gradients for images (V, B, C, H, W) and labels (V, B); with local steps, images (V, epochs, B, C, H, W)."""
        # A forward pass may write to buffers (spectral norm does); each call begins with those of the network.
        self._buffers.update((name, buffer.clone()) for name, buffer in self._network.named_buffers())
        with unfused(self._network):
            found = self._gradients(self._trained, images, labels)
        return {name: Full(g) for name, g in found.items()}


class Plain:
    """The plain path: autograd, one victim after another."""

    def __init__(self, model: nn.Module, mode: Mode, loss: Loss, work: LocalWork | None = None):
        self._network, self._loss, self._work = set_mode(copied(model), mode), loss, work
        self._trained: dict[str, Tensor] = {name: p for name, p in self._network.named_parameters() if p.requires_grad}

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """As `Functional`."""
        with unfused(self._network):
            found = [self._one(x, y) for x, y in zip(images, labels, strict=True)]
        return {name: Full(torch.stack([each[name] for each in found])) for name in self._trained}

    def _one(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        # Buffers that a victim's forward pass writes serve its own next step only.
        buffers = {name: buffer.clone() for name, buffer in self._network.named_buffers()}

        def slope(trained: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return slopes(self._loss(forward(self._network, x, {**trained, **buffers}), y), trained, again=True)

        if self._work is None:
            return slope(self._trained, images, labels)
        return _descended(slope, self._work, self._trained, images, labels)


PATHS: Mapping[str, Callable[..., GradientPath]] = {"batched": Batched, "functional": Functional, "plain": Plain}
"""Usually the fastest first; the others are compared with the last one."""


@dataclass(frozen=True)
class Engine(Chosen[GradientPath]):
    """The path by which victims' gradients are computed."""

    what: ClassVar[str] = "gradients"

    def gradients(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """Gradients for images (V, B, C, H, W) and labels (V, B), or probabilities (V, B, classes)."""
        return self.run(images, labels)


def engine(
    model: nn.Module,
    mode: Mode,
    loss: Loss,
    shape: tuple[int, ...],
    device: str = "cpu",
    work: LocalWork | None = None,
) -> Engine:
    """The engine for a model. It computes in float64 for a model in float64, and in float32 for others.

    Paths are compared by the gradients of two victims' random batches and their slopes in the images. A bottleneck's
    noise is held.

    Args:
        model: the network; it is copied.
        mode: how victims ran it.
        shape: (B, C, H, W) of a victim's batch.
        work: the victims' local steps. The engine then computes old − new parameters, and images have the shape
            (V, epochs, B, C, H, W), each epoch's in the order in which it used them.
    """
    steps = brief = () if work is None else (work,)
    if work is not None:
        # Two steps are enough to show the effect of one on the next.
        brief = (replace(work, steps=min(work.steps, 2)),)
        shape = (-(-min(work.steps, 2) * work.batch // shape[0]), *shape)

    def probe(name: str, model: nn.Module) -> dict[str, Tensor]:
        for module in model.modules():
            if isinstance(module, VariationalBottleneck):
                module.hold(1.0)
        random = torch.Generator().manual_seed(0)
        images = torch.rand(2, *shape, generator=random, dtype=torch.float64).requires_grad_()
        labels = torch.randint(2, (2, shape[-4]), generator=random)
        found = PATHS[name](model, mode, loss, *brief)(images, labels)
        gradients = {key: gradient.full() for key, gradient in found.items()}
        random.manual_seed(1)
        projected = sum((g * torch.randn(g.shape, generator=random, dtype=g.dtype)).sum() for g in gradients.values())
        (slope,) = torch.autograd.grad(projected, images)  # type: ignore[arg-type]
        return {key: g.detach() for key, g in gradients.items()} | {"the slope in the images": slope}

    name, reasons = choose(_by_speed(model, device, work is not None), probe, wide_copy(model, "cpu"))
    return Engine(PATHS[name](wide_copy(model, device), mode, loss, *steps), name, reasons)


def arithmetic(model: nn.Module) -> torch.dtype:
    """The type in which an attack computes: the model's, but float32 for half precision."""
    return torch.float32 if floating(model) in NARROW else floating(model)


def wide_copy(model: nn.Module, device: str) -> nn.Module:
    """A copy on a device, in the type in which an attack computes (`arithmetic`)."""
    return copied(model).to(device, torch.float32 if floating(model) in NARROW else None)


def _by_speed(model: nn.Module, device: str, steps: bool) -> list[str]:
    """Names of paths, the fastest for this model first."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    thin = bool(convolutions) and all(m.out_channels < THIN for m in convolutions)
    if steps:
        return ["functional", "plain"]
    return ["functional", "batched", "plain"] if thin and device == "cpu" else list(PATHS)


def _descended(
    slope: Slope, work: LocalWork, start: dict[str, Tensor], images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Old − new parameters after one victim's local steps on images (epochs, B, C, H, W)."""
    current = start
    for step in range(work.steps):
        epoch, place = divmod(step * work.batch, len(labels))
        chosen = slice(place, place + work.batch)
        found = slope(current, images[epoch, chosen], labels[chosen])
        current = {n: p - work.lr * (found[n] + work.weight_decay * p) for n, p in current.items()}
    return {name: p - current[name] for name, p in start.items()}
