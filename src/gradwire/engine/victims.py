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
from gradwire.models.mode import NARROW, copied, floating, set_mode, slopes
from gradwire.schemes.gradients import Full, Gradient
from gradwire.tasks import Task
from gradwire.wire.view import LocalWork, Mode

Slope = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
"""(parameters, inputs (B, *shape), targets) → the gradient."""
GradientPath = Callable[[Tensor, Tensor], dict[str, Gradient]]
"""(inputs (V, B, *shape), targets (V, B, …)) → parameter name → gradients of V victims."""
THIN = 16
"""On a CPU, products with a weight of fewer rows leave most of the vector units idle (`gradwire bench inversion`)."""


class Functional:
    """The general path: `torch.func.vmap` over `torch.func.grad` of the whole model."""

    def __init__(self, model: nn.Module, mode: Mode, task: Task, work: LocalWork | None = None):
        network = self._network = set_mode(copied(model), mode)
        spell_out(network)
        self._trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
        buffers: dict[str, Tensor] = {}
        self._buffers = buffers

        def value(trained: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            return task.value(network, inputs, targets, {**trained, **buffers})

        one = grad(value) if work is None else partial(_descended, grad(value), work)
        self._gradients = vmap(one, in_dims=(None, 0, 0), randomness="different")

    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
        """Gradients for inputs (V, B, *shape) and targets (V, B, …); with local steps, (V, epochs, B, *shape)."""
        # A forward pass may write to buffers (spectral norm does); each call begins with those of the network.
        self._buffers.update((name, buffer.clone()) for name, buffer in self._network.named_buffers())
        with unfused(self._network):
            found = self._gradients(self._trained, inputs, targets)
        return {name: Full(g) for name, g in found.items()}


class Plain:
    """The plain path: autograd, one victim after another."""

    def __init__(self, model: nn.Module, mode: Mode, task: Task, work: LocalWork | None = None):
        self._network, self._task, self._work = set_mode(copied(model), mode), task, work
        self._trained: dict[str, Tensor] = {name: p for name, p in self._network.named_parameters() if p.requires_grad}

    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
        """As `Functional`."""
        with unfused(self._network):
            found = [self._one(x, y) for x, y in zip(inputs, targets, strict=True)]
        return {name: Full(torch.stack([each[name] for each in found])) for name in self._trained}

    def _one(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        # Buffers that a victim's forward pass writes serve its own next step only.
        buffers = {name: buffer.clone() for name, buffer in self._network.named_buffers()}

        def slope(trained: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return slopes(self._task.value(self._network, x, y, {**trained, **buffers}), trained, again=True)

        if self._work is None:
            return slope(self._trained, inputs, targets)
        return _descended(slope, self._work, self._trained, inputs, targets)


PATHS: Mapping[str, Callable[..., GradientPath]] = {"batched": Batched, "functional": Functional, "plain": Plain}
"""Usually the fastest first; the others are compared with the last one."""


@dataclass(frozen=True)
class Engine(Chosen[GradientPath]):
    """The path by which victims' gradients are computed."""

    what: ClassVar[str] = "gradients"

    def gradients(self, inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
        """Gradients for inputs (V, B, *shape) and targets (V, B, …), such as labels or probabilities of classes."""
        return self.run(inputs, targets)


def engine(
    model: nn.Module, mode: Mode, task: Task, batch: int, device: str = "cpu", work: LocalWork | None = None
) -> Engine:
    """The engine for a model. It computes in float64 for a model in float64, and in float32 for others.

    Paths are compared by the gradients of two victims' random batches and their slopes in the images. A bottleneck's
    noise is held.

    Args:
        model: the network; it is copied.
        mode: how victims ran it.
        task: the domain of the inputs, and the loss.
        batch: examples of a victim.
        work: the victims' local steps. The engine then computes old − new parameters, and inputs have the shape
            (V, epochs, B, *shape), each epoch's in the order in which it used them.
    """
    steps = brief = () if work is None else (work,)
    size: tuple[int, ...] = (2, batch)
    if work is not None:
        # Two steps are enough to show the effect of one on the next.
        brief = (replace(work, steps=min(work.steps, 2)),)
        size = (2, -(-min(work.steps, 2) * work.batch // batch), batch)

    def probe(name: str, model: nn.Module) -> dict[str, Tensor]:
        for module in model.modules():
            if isinstance(module, VariationalBottleneck):
                module.hold(1.0)
        inputs, _ = task.probe(*size)
        targets = task.probe(2, batch)[1]
        if task.domain.continuous:
            inputs.requires_grad_()
        found = PATHS[name](model, mode, task, *brief)(inputs, targets)
        gradients = {key: gradient.full() for key, gradient in found.items()}
        if not task.domain.continuous:
            return {key: g.detach() for key, g in gradients.items()}
        random = torch.Generator().manual_seed(1)
        projected = sum((g * torch.randn(g.shape, generator=random, dtype=g.dtype)).sum() for g in gradients.values())
        (slope,) = torch.autograd.grad(projected, inputs)  # type: ignore[arg-type]
        return {key: g.detach() for key, g in gradients.items()} | {"the slope in the inputs": slope}

    name, reasons = choose(_by_speed(model, device, work is not None), probe, wide_copy(model, "cpu"))
    return Engine(PATHS[name](wide_copy(model, device), mode, task, *steps), name, reasons)


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
    slope: Slope, work: LocalWork, start: dict[str, Tensor], inputs: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """Old − new parameters after one victim's local steps on inputs (epochs, B, *shape)."""
    current = start
    for step in range(work.steps):
        epoch, place = divmod(step * work.batch, len(targets))
        chosen = slice(place, place + work.batch)
        found = slope(current, inputs[epoch, chosen], targets[chosen])
        current = {n: p - work.lr * (found[n] + work.weight_decay * p) for n, p in current.items()}
    return {name: p - current[name] for name, p in start.items()}
