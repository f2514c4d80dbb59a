"""A whole guess: its images put in the order of the true ones, and the share of its labels that is right."""

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.images import by_victim


def match(guess: Tensor, truth: Tensor) -> Tensor:
    """Reorders each victim's images to stand beside the true ones, by the pairing of least total MSE.

    A gradient is a mean over its batch and tells nothing of the order, so a guess in another order is no worse. This
    uses the truth: call it after the attack has chosen its answer.

    Args:
        guess: V×B×C×H×W in [0, 1]; N×C×H×W (one image a victim) comes back as it is.
        truth: images of the same shape.

    Raises:
        GradwireError: as `by_victim`.
    """
    guesses, truths = by_victim(guess, truth)
    if guesses.shape[1] == 1:
        return guess
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    matched = torch.empty_like(guess)
    for victim, (images, originals) in enumerate(zip(guesses.flatten(2), truths.flatten(2), strict=True)):
        _, order = linear_sum_assignment(torch.cdist(originals, images).square().numpy())
        matched[victim] = guess[victim, torch.from_numpy(order).to(guess.device)]
    return matched


def label_accuracy(found: Tensor, true: Tensor) -> Tensor:
    """The share of each victim's labels that were found, in any order: multiset overlap / B; float64, shape (V,).

    Args:
        found, true: int64, both of shape (V, B), or (B,) for one victim.

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
