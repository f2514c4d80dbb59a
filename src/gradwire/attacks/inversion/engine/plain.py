"""The path of last resort: plain autograd, one victim after another. Right for whatever autograd differentiates."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradwire.schemes.gradients import Full, Gradient
from gradwire.wire.view import Loss, Mode


class Plain:
    """Candidates of V victims → the gradient that each would have sent, formed in full."""

    def __init__(self, model: nn.Module, mode: Mode, loss: Loss):
        self._network = copy.deepcopy(model).train(mode == "train")
        self._loss = loss

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """Gradients for images (V, B, C, H, W) and labels (V, B), differentiable in the images."""
        parameters = {name: p for name, p in self._network.named_parameters() if p.requires_grad}
        victims = [self._one(x, y, parameters) for x, y in zip(images, labels, strict=True)]
        stacked = (torch.stack(column) for column in zip(*victims, strict=True))
        return {name: Full(g) for name, g in zip(parameters, stacked, strict=True)}

    def _one(self, images: Tensor, labels: Tensor, parameters: dict[str, nn.Parameter]) -> list[Tensor]:
        # What a forward pass leaves in buffers must not reach the next one.
        buffers = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
        value = self._loss(functional_call(self._network, buffers, (images,)), labels)
        chosen = list(parameters.values())
        found = torch.autograd.grad(value, chosen, create_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(chosen, found, strict=True)]
