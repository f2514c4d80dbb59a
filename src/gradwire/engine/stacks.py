"""Many networks of one architecture as one batch, each with its own parameters, buffers, data and loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.utils.flop_counter import FlopCounterMode

from gradwire.engine.choice import Chosen, Unsupported, choose, unfused
from gradwire.engine.layered import Layered, Losses, Rowwise, means
from gradwire.engine.networks import Networks, Slopes, Stacked
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, failure, in_mode, logits, set_mode, slopes
from gradwire.tasks import Task
from gradwire.wire.view import Mode

StackPath = Callable[[Networks, Tensor, Tensor, Tensor], Slopes]
"""(networks, inputs (N, B, *shape), targets (N, B, …), weights (N, B)) → slopes. Weights of 0 leave examples out."""
BUSY = 2_000_000
"""Floating-point operations in the convolutions of one example beyond which one network keeps a CPU's core busy: small
convolutions of several networks are faster as one product, large ones lose more by the copies for it."""


class FunctionalStack:
    """All networks at once under `torch.func.vmap`."""

    def __init__(self, model: nn.Module, mode: Mode, task: Task):
        network = self._network = set_mode(copied(model), mode)
        losses = each_of(task)

        def value(
            parameters: Stacked, buffers: Stacked, inputs: Tensor, targets: Tensor, weights: Tensor
        ) -> tuple[Tensor, Stacked]:
            kept = {name: b.clone() for name, b in buffers.items()}
            output = task.output(network, inputs, {**parameters, **kept})
            return means(losses(logits(output), targets), weights), kept

        self._slopes = vmap(grad_and_value(value, has_aux=True), randomness="different")

    def __call__(self, networks: Networks, inputs: Tensor, targets: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network."""
        with unfused(self._network):
            found, (losses, buffers) = self._slopes(networks.parameters, networks.buffers, inputs, targets, weights)
        return Slopes(losses.detach(), found, buffers)


class PlainStack:
    """One network after another, each with its own examples only, without padding."""

    def __init__(self, model: nn.Module, mode: Mode, task: Task):
        self._network, self._task, self._losses = set_mode(copied(model), mode), task, each_of(task)

    def __call__(self, networks: Networks, inputs: Tensor, targets: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network; zeros, and the buffers as they were, where all its weights are zero."""
        losses = weights.new_zeros(len(networks))
        gradients = {name: torch.zeros_like(p) for name, p in networks.parameters.items()}
        buffers = {name: b.clone() for name, b in networks.buffers.items()}
        for index, weight in enumerate(weights):
            own = weight != 0
            if not own.any():
                continue
            parameters = {name: p[index].detach().requires_grad_() for name, p in networks.parameters.items()}
            kept = {name: b[index] for name, b in buffers.items()}
            output = self._task.output(self._network, inputs[index, own], {**parameters, **kept})
            value = means(self._losses(logits(output), targets[index, own]), weight[own])
            losses[index] = value.detach()
            for name, slope in slopes(value, parameters).items():
                gradients[name][index] = slope
        return Slopes(losses, gradients, buffers)


STACK_PATHS: Mapping[str, Callable[[nn.Module, Mode, Task], StackPath]] = {
    "rowwise": lambda model, mode, task: Rowwise(model, mode, each_of(task)),
    "layered": lambda model, mode, task: Layered(model, mode, each_of(task)),
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

    def slopes(self, networks: Networks, inputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Slopes:
        """Losses, gradients and buffers of N networks, each on a batch of its own.

        Args:
            inputs: shape (N, B, *shape), on the networks' device.
            targets: shape (N, B, …).
            weights: of the examples, shape (N, B); 0 leaves one out, so that batches of fewer than B examples can be
                padded with anything. By default all are equal.
        """
        like = next(iter(networks.parameters.values()))
        inputs = inputs.to(like.dtype) if inputs.is_floating_point() else inputs
        weights = like.new_ones(inputs.shape[:2]) if weights is None else weights.to(like)
        if self.precision == "fp32":
            return self.run(networks, inputs, targets, weights)
        if isinstance(self.run, Layered):
            return self.run(networks, inputs.bfloat16(), targets, weights)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self.run(networks, inputs, targets, weights)

    @property
    def draws_apart(self) -> bool:
        """Whether each network draws from its own generator in `Networks.draws` only."""
        return isinstance(self.run, Layered) and self.run.draws_apart


def stack(
    model: nn.Module,
    task: Task,
    mode: Mode = "train",
    *,
    ragged: bool = False,
    device: str = "cpu",
    path: str | None = None,
) -> Stack:
    """The path for many networks of this architecture.

    Paths are compared by the losses, gradients and buffers of two networks on random batches.

    Args:
        model: the architecture; its parameters do not matter.
        task: the domain of the inputs, and a loss that is a mean over examples.
        ragged: whether there will be weights of 0. Models that mix examples (batch norm while training) then run one
            after another, because padding would change their results.
        path: the name of a path to take untried.
    """
    if path is not None:
        return Stack(STACK_PATHS[path](model, mode, task), path)

    def probe(name: str, model: nn.Module) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(0)
        inputs, targets = task.probe(2, 3)
        weights = torch.ones(2, 3)
        if ragged:
            weights[1, 2] = 0
        networks = Networks.repeat(model, 2)
        for tensor in networks.parameters.values():
            tensor += 0.01 * torch.rand(tensor.shape, generator=random, dtype=torch.float64)
        found = Stack(STACK_PATHS[name](model, mode, task), name).slopes(networks, inputs, targets, weights)
        return {"the losses": found.losses, **found.gradients, **found.buffers}

    wrong = "padding changes" if ragged else "it is wrong for"
    name, reasons = choose(_by_speed(model, task, device), probe, copied(model).cpu(), wrong)
    return Stack(STACK_PATHS[name](copied(model).to(device), mode, task), name, reasons)


def _by_speed(model: nn.Module, task: Task, device: str) -> Sequence[str]:
    """Names of paths, the fastest for this model first."""
    if torch.device(device).type != "cpu":
        return "functional", "layered", "plain"
    if busy(model, task):
        return "rowwise", "plain"
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return "layered" if convolutional else "rowwise", "functional", "plain"


def each_of(task: Task) -> Losses:
    """The task's loss of every example.

    Raises:
        Unsupported: the loss of a batch is no mean over its examples.
    """
    if task.loss.each is None:
        raise Unsupported(f"the loss {task.loss.name!r} of a batch is no mean over its examples")
    return task.loss.each


def busy(model: nn.Module, task: Task) -> bool:
    """Whether one network on the CPU keeps a core of it busy."""
    one, _ = task.probe(1)
    try:
        with FlopCounterMode(display=False) as counter, in_mode(model, "eval"), torch.no_grad():
            task.output(model, one)
    except Exception as error:
        raise GradwireError(
            f"model fails on an input of shape {task.domain.shape} in eval mode: {failure(error)}"
        ) from error
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) > BUSY
