"""Means over clients."""

from collections.abc import Mapping

import torch

from gradwire.wire import Tensors


def mean(uploads: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """The entry-wise mean of what the clients sent: name → tensor."""
    parties = list(uploads.values())
    if len(parties) == 1:  # one client, or a transport that has taken the mean already
        return dict(parties[0])
    return {name: torch.stack([tensors[name] for tensors in parties]).mean(0) for name in parties[0]}
