"""One client's gradient of one batch, as training makes it."""

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from gradwire.engine.choice import unfused
from gradwire.errors import GradwireError
from gradwire.models.mode import failure, in_mode, slopes
from gradwire.schemes import Layout
from gradwire.tasks import Task, task_of
from gradwire.wire.view import Mode


def gradient(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    mode: Mode = "train",
    task: Task | None = None,
    finite: bool = True,
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """The loss of a batch, its gradient, and the buffers that the forward pass leaves behind.

    The model itself is not changed: neither its buffers (batch norm's running statistics) nor its mode.

    Args:
        model: takes inputs of the task's domain, gives what its loss takes.
        inputs: shape (B, *domain.shape).
        targets: such as class numbers, int64, (B,).
        mode: "train" (batch norm uses the batch's own statistics, dropout drops) or "eval"; see `models.mode.set_mode`.
        task: by default that of images and class numbers: see `tasks.task_of`.
        finite: whether to insist that the gradient is.

    Raises:
        GradwireError: inputs outside the domain, targets that do not suit the loss, a model that has no trainable
            parameters or fails on the inputs, or a gradient that is not finite (naming the parameter).
    """
    task = task_of(inputs) if task is None else task
    task.check(inputs, targets)
    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise GradwireError(f"model {type(model).__name__} has no parameter that requires a gradient")
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    with in_mode(model, mode), torch.enable_grad():
        try:
            output = task.output(model, inputs, {**parameters, **buffers}, targets)
            task.loss.suits(output, targets)
            value = task.loss(output, targets)
            update = slopes(value, parameters)
        except GradwireError:
            raise
        except Exception as error:
            shape = tuple(inputs.shape)
            raise GradwireError(
                f"model fails on {task.domain.what} of shape {shape} in {mode} mode: {failure(error)}"
            ) from error
    if finite:
        Layout.of(update).check(update)
    return value.item(), update, buffers


def example_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, mode: Mode = "train", task: Task | None = None
) -> dict[str, Tensor]:
    """Every example's own gradient: parameter name → shape (B, *parameter). The model is not changed.

    All at once where `vmap` can take the network, else one by one: it cannot take recurrent layers, nor buffers that
    the forward pass writes into.

    Raises:
        GradwireError: as `gradient`, and batch norm in training mode, under which examples have no gradient of their
            own.
    """
    task = task_of(inputs) if task is None else task
    task.check(inputs, targets)
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p for name, p in model.named_parameters() if name not in parameters} | dict(model.named_buffers())

    def value(varied: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.value(model, x[None], y[None], {**varied, **fixed})

    def one_by_one() -> dict[str, Tensor]:
        each = []
        for x, y in zip(inputs, targets, strict=True):
            own = {name: p.clone().requires_grad_() for name, p in parameters.items()}
            written = {name: b.clone() for name, b in model.named_buffers()}
            with torch.enable_grad():
                each.append(slopes(task.value(model, x[None], y[None], {**fixed, **written, **own}), own))
        return {name: torch.stack([found[name] for found in each]) for name in parameters}

    with in_mode(model, mode):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise GradwireError(
                    f"examples have no gradients of their own: {name!r} is batch norm, which mixes a batch"
                )
        try:
            with unfused(model):
                return vmap(grad(value), in_dims=(None, 0, 0), randomness="different")(parameters, inputs, targets)
        except (RuntimeError, NotImplementedError, ValueError):
            pass  # what vmap cannot take, and what no way can: the latter is raised below, by name
        try:
            return one_by_one()
        except GradwireError:
            raise
        except Exception as error:
            what = f"{task.domain.what} of shape {tuple(inputs[:1].shape)}"
            raise GradwireError(f"model fails on {what}, one example at a time: {failure(error)}") from error
