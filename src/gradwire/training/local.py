"""A client's local work: several steps of SGD on its own data, and what they changed.

B. McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
algorithm 1, ClientUpdate.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.training.gradient import gradient
from gradwire.wire.view import LocalWork, Loss, Mode


def local_work(steps: int | None, batch: int, lr: float, weight_decay: float) -> LocalWork | None:
    """The work that these settings ask for; None where it is the plain gradient of one batch.

    Raises:
        GradwireError: fewer than one step or image, a step size that is not positive, or a negative weight decay.
    """
    if steps is None and not weight_decay:
        return None
    for name, value, right in (
        ("local_steps", 1 if steps is None else steps, "at least 1"),
        ("local_batch", batch, "at least 1"),
    ):
        if value < 1:
            raise GradwireError(f"{name} is {value}; it must be {right}")
    if not lr > 0:
        raise GradwireError(f"lr is {lr}; it must be positive")
    if weight_decay < 0:
        raise GradwireError(f"weight_decay is {weight_decay}; it must not be negative")
    return LocalWork(1, batch, 1.0, weight_decay) if steps is None else LocalWork(steps, batch, lr, weight_decay)


def local_update(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    work: LocalWork,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    random: torch.Generator | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Old − new parameters after the work, and the buffers that the last step leaves. The model is not changed.

    Args:
        random: the client's own: decides each epoch's order. Without it images stay in theirs.

    Raises:
        GradwireError: as `gradient`, and a number of images that `work.batch` does not divide.
    """
    if len(inputs) % work.batch:
        raise GradwireError(f"local_batch is {work.batch}; it must divide the {len(inputs)} images of the client")
    network, batches = copy.deepcopy(model), len(inputs) // work.batch
    order = torch.arange(len(inputs))
    buffers: dict[str, Tensor] = {}
    for step in range(work.steps):
        if step % batches == 0 and random is not None:
            order = torch.randperm(len(inputs), generator=random)
        chosen = order.view(batches, work.batch)[step % batches]
        _, slope, buffers = gradient(network, inputs[chosen], labels[chosen], mode, loss)
        with torch.no_grad():
            for name, g in slope.items():
                parameter = network.get_parameter(name)
                parameter.sub_(work.lr * (g + work.weight_decay * parameter))
            for name, value in buffers.items():
                network.get_buffer(name).copy_(value)
    before = dict(model.named_parameters())
    return {n: (before[n] - p).detach() for n, p in network.named_parameters() if p.requires_grad}, buffers
