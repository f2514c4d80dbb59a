"""Scores of a whole guess: its images, put in the order of the true ones, and its labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.images import by_victim, mse, psnr, ssim, success


@dataclass(frozen=True)
class Score:
    """How near a guess came, victim by victim.

    Attributes:
        inputs: the guess as `match` orders it; shape of the guess.
        mse, psnr, ssim: float64, shape [V]; the mean of a victim's images. PSNR is in dB.
        success: SSIM ≥ 0.6; boolean, shape [V].
    """

    inputs: Tensor
    mse: Tensor
    psnr: Tensor
    ssim: Tensor
    success: Tensor


def score(guess: Tensor, truth: Tensor) -> Score:
    """Compares a guess with the truth.

    Args:
        guess: images in [0, 1], V×B×C×H×W, or N×C×H×W with one image a victim.
        truth: as `guess`; for a guess of V×B images also (V·B)×C×H×W, victim by victim.

    Raises:
        GradwireError: as `by_victim`.
    """
    if guess.ndim == 5 and truth.shape == (guess.shape[0] * guess.shape[1], *guess.shape[2:]):
        truth = truth.reshape(guess.shape)
    images = match(guess, truth)
    similarity = ssim(images, truth)
    return Score(images, mse(images, truth), psnr(images, truth), similarity, success(similarity))


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
