"""The principal components of the adversary's own inputs, and the targets of a batch as numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.tasks import TaskLoss


@dataclass(frozen=True)
class Components:
    """Inputs (…, *shape) as coefficients (…, K): of `basis` (P, K), from their `mean` (P,)."""

    mean: Tensor
    basis: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Tensor, most: int) -> "Components":
        """At most so many components of inputs (N, *shape), the strongest; random numbers are the global ones."""
        flat = inputs.flatten(1).float()
        mean = flat.mean(0)
        kept = min(most, *flat.shape)
        return cls(mean, torch.svd_lowrank(flat - mean, kept, niter=2)[2], tuple(inputs.shape[1:]))

    def coefficients(self, inputs: Tensor) -> Tensor:
        """Of inputs (…, *shape): (…, K)."""
        return (inputs.flatten(-len(self.shape)).float() - self.mean) @ self.basis

    def inputs(self, coefficients: Tensor) -> Tensor:
        """Of coefficients (…, K): (…, *shape)."""
        return (coefficients @ self.basis.mT + self.mean).unflatten(-1, self.shape)


def outputs(loss: TaskLoss, targets: Tensor) -> int:
    """How wide a class is as numbers, as far as examples of these targets (N, …) show; 0 where they are none."""
    if targets.is_floating_point() or targets.ndim != 1:
        return 0
    return max(len(loss.classes), int(targets.max()) + 1)


def encoded(targets: Tensor, classes: int) -> Tensor:
    """Targets (V, B, …) as numbers (V, F): each class as a one among zeros, others as they are."""
    targets = targets.cpu()
    if classes:
        return (targets[..., None] == torch.arange(classes)).float().flatten(1)
    return targets.float().flatten(1)
