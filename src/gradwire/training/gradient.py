"""One client's gradient of one batch, as training makes it."""

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.models.mode import failure, forward, in_mode, slopes
from gradwire.schemes import Layout
from gradwire.wire.view import Loss, Mode


def gradient(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    finite: bool = True,
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """The loss of a batch, its gradient, and the buffers that the forward pass leaves behind.

    The model itself is not changed: neither its buffers (batch norm's running statistics) nor its mode.

    Args:
        model: takes images (B, C, H, W) in [0, 1], gives logits (B, classes); see `models.mode.logits`.
        inputs: shape (B, C, H, W).
        labels: int64, shape (B,).
        mode: "train" (batch norm uses the batch's own statistics, dropout drops) or "eval"; see `models.mode.set_mode`.
        finite: whether to insist that the gradient is.

    Raises:
        GradwireError: images outside [0, 1], labels out of range, a model without trainable parameters or that fails
            on the images, or a gradient that is not finite (naming the parameter).
    """
    check_batch(inputs, labels)
    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise GradwireError(f"model {type(model).__name__} has no parameter that requires a gradient")
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    with in_mode(model, mode), torch.enable_grad():
        try:
            logits = forward(model, inputs, {**parameters, **buffers})
            check_labels(labels, logits.shape[1])
            value = loss(logits, labels)
            update = slopes(value, parameters)
        except GradwireError:
            raise
        except Exception as error:
            shape = tuple(inputs.shape)
            raise GradwireError(f"model fails on images of shape {shape} in {mode} mode: {failure(error)}") from error
    if finite:
        Layout.of(update).check(update)
    return value.item(), update, buffers


def example_gradients(
    model: nn.Module, inputs: Tensor, labels: Tensor, mode: Mode = "train", loss: Loss = cross_entropy
) -> dict[str, Tensor]:
    """Every example's own gradient: parameter name → shape (B, *parameter). The model is not changed.

    Raises:
        GradwireError: as `gradient`, and batch norm in training mode, under which examples have no gradient of their
            own.
    """
    check_batch(inputs, labels)
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p for name, p in model.named_parameters() if name not in parameters} | dict(model.named_buffers())

    def value(varied: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(forward(model, x[None], {**varied, **fixed}), y[None])

    with in_mode(model, mode):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise GradwireError(
                    f"examples have no gradients of their own: {name!r} is batch norm, which mixes a batch"
                )
        return vmap(grad(value), in_dims=(None, 0, 0), randomness="different")(parameters, inputs, labels)


def check_batch(inputs: Tensor, labels: Tensor) -> None:
    """Refuse a batch that is not images in [0, 1] with one label each."""
    if inputs.ndim != 4 or len(inputs) == 0 or labels.shape != inputs.shape[:1]:
        shapes = f"{tuple(inputs.shape)} and {tuple(labels.shape)}"
        raise GradwireError(f"inputs and labels have shapes {shapes}; they must be (B, C, H, W) and (B,), B ≥ 1")
    low, high = float(inputs.min()), float(inputs.max())
    if not (low >= 0 and high <= 1):
        raise GradwireError(f"images lie in [{low:g}, {high:g}]; they must lie in [0, 1]")


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that the model has no class for."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise GradwireError(f"label {bad} is out of range; the model has classes 0 to {classes - 1}")
