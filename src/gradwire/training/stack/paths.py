"""Two ways to the slopes of many networks: one after another, and all at once under `torch.func.vmap`."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from gradwire.training.stack.networks import Networks, Slopes, Stacked
from gradwire.wire.view import Mode

Losses = Callable[[Tensor, Tensor], Tensor]
"""Of logits (B, classes) and labels (B,): one an example, (B,)."""
Path = Callable[[Networks, Tensor, Tensor, Tensor], Slopes]
"""(networks, images (N, B, C, H, W), labels (N, B), weights (N, B)) → slopes. Weights of 0 leave examples out."""

each: Losses = partial(cross_entropy, reduction="none")


class Plain:
    """One network after another, each with just its own examples: no padding is ever seen."""

    def __init__(self, model: nn.Module, mode: Mode = "train", losses: Losses = each):
        self._network, self._losses = copy.deepcopy(model).train(mode == "train"), losses

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
            logits = functional_call(self._network, {**parameters, **kept}, (images[index, own],))
            value = means(self._losses(logits, labels[index, own]), weight[own])
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            losses[index] = value.detach()
            for name, g in zip(parameters, found, strict=True):
                if g is not None:
                    gradients[name][index] = g
        return Slopes(losses, gradients, buffers)


class Functional:
    """All networks at once: every operation of theirs becomes one over the stacked tensors."""

    def __init__(self, model: nn.Module, mode: Mode = "train", losses: Losses = each):
        network = copy.deepcopy(model).train(mode == "train")

        def value(
            parameters: Stacked, buffers: Stacked, images: Tensor, labels: Tensor, weights: Tensor
        ) -> tuple[Tensor, Stacked]:
            kept = {name: b.clone() for name, b in buffers.items()}
            logits = functional_call(network, {**parameters, **kept}, (images,))
            return means(losses(logits, labels), weights), kept

        self._slopes = vmap(grad_and_value(value, has_aux=True), randomness="different")

    def __call__(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor) -> Slopes:
        """The slopes of every network."""
        found, (losses, buffers) = self._slopes(networks.parameters, networks.buffers, images, labels, weights)
        return Slopes(losses.detach(), found, buffers)


def means(losses: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the last axis; zero where all weights are."""
    total = weights.sum(-1)
    return (losses * weights).sum(-1) / torch.where(total > 0, total, 1)
