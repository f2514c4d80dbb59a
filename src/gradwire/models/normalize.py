"""Standardisation of the input, as a layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError


class Normalize(nn.Module):
    """Subtract from each channel its `mean` and divide it by its `std`, both on the scale [0, 1].

    As part of the network, it lets an attack search among images in [0, 1], whatever the network was trained on. It
    has no parameters, and its two buffers (C×1×1) are not in the state dict: a checkpoint holds what was learned.

    Raises:
        GradwireError: unequal lengths, or a standard deviation that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise GradwireError(f"mean has {len(mean)} channels and std {len(std)}; they must have as many")
        if not all(value > 0 for value in std):
            raise GradwireError(f"std is {tuple(std)}; each channel's must be above 0")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images, N×C×H×W."""
        return (images - self.mean) / self.std
