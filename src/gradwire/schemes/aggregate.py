"""Means over clients."""

from collections.abc import Mapping

import torch

from gradwire.wire import Tensors


def mean(uploads: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """The entry-wise mean of what the clients sent: name → tensor."""
    parties = list(uploads.values())
    if len(parties) == 1:  # one client, or a transport that has taken the mean already
        return dict(parties[0])
    # Added up one by one: many clients' tensors as one would be as large as all of them together.
    totals = {name: tensor.clone() for name, tensor in parties[0].items()}
    for tensors in parties[1:]:
        for name, total in totals.items():
            total += tensors[name]
    return {name: total / len(parties) for name, total in totals.items()}
