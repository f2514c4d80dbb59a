"""Queries: a model's signals on candidates, by the task's loss."""

import torch
from torch import Tensor, nn

from gradwire.attacks.membership import Signals, signals
from gradwire.data import Dataset, augment
from gradwire.models.mode import in_mode


@torch.no_grad()
def query(model: nn.Module, dataset: Dataset, augmentations: str, device: str, batch: int = 500) -> Signals:
    """A model's signals on every example in every augmentation, shape (N, A), on the CPU.

    They are those of the classes' probabilities where the loss is cross-entropy, and those of each example's own loss
    elsewhere.
    """
    found = []
    with in_mode(model, "eval"):
        for stored, targets in zip(dataset.inputs.split(batch), dataset.targets.split(batch), strict=True):
            several = augment.views(dataset.task.domain.read(stored.to(device)), augmentations)
            found.append(_signals(model, dataset, several, targets))
    return Signals.joined(found, torch.cat)


def _signals(model: nn.Module, dataset: Dataset, several: Tensor, targets: Tensor) -> Signals:
    """The signals on inputs in several augmentations, (N, A, *shape)."""
    task, inputs = dataset.task, several.flatten(0, 1)
    if task.loss.probabilities:
        return signals(task.logits(model, inputs).unflatten(0, several.shape[:2]).cpu(), targets)
    told = targets.to(inputs.device).repeat_interleave(several.shape[1], 0)
    return Signals.of_losses(task.each(model, inputs, told).unflatten(0, several.shape[:2]).cpu())
