"""How many of a batch's labels were found."""

import torch
from torch import Tensor

from gradwire.errors import GradwireError


def label_accuracy(found: Tensor, true: Tensor) -> Tensor:
    """The share of each victim's labels that were found, whatever their order: multiset overlap / B.

    Args:
        found: int64, shape (V, B), or (B,) for one victim.
        true: of the same shape.

    Returns:
        double precision, shape (V,), in [0, 1].

    Raises:
        GradwireError: the shapes differ, or there is no label.
    """
    if found.shape != true.shape or found.ndim not in (1, 2) or not found.numel():
        shapes = f"{tuple(found.shape)} and {tuple(true.shape)}"
        raise GradwireError(f"labels found and true have shapes {shapes}; they must be the same, (V, B) or (B,)")
    found, true = (labels.cpu().reshape(-1, labels.shape[-1]) for labels in (found, true))
    classes = int(torch.maximum(found.max(), true.max())) + 1
    counted = [torch.stack([row.bincount(minlength=classes) for row in labels]) for labels in (found, true)]
    return torch.minimum(*counted).sum(1).double() / found.shape[1]
