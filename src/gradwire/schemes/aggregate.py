"""Means over clients."""

from collections.abc import Mapping

import torch

from gradwire.wire import Tensors


def mean(uploads: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """The entry-wise mean of what the clients sent: name → tensor."""
    parties = list(uploads.values())
    return {name: torch.stack([tensors[name] for tensors in parties]).mean(0) for name in parties[0]}
