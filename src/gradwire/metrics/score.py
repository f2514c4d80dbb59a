"""A guess held against the truth, once the attack has chosen it."""

from dataclasses import dataclass

from torch import Tensor

from gradwire.metrics.images import mse, psnr, ssim, success
from gradwire.metrics.matching import match


@dataclass(frozen=True)
class Score:
    """How alike each victim's guess and truth are; every field has shape (V,).

    Attributes:
        mse: mean squared error, pixels in [0, 1].
        psnr: peak signal-to-noise ratio in dB.
        ssim: structural similarity; 1 for identical images.
        success: whether SSIM is at least 0.6.
    """

    mse: Tensor
    psnr: Tensor
    ssim: Tensor
    success: Tensor


def score(guess: Tensor, truth: Tensor) -> Score:
    """Score reconstructions against what the victims really held.

    Args:
        guess: images (V, B, C, H, W) in [0, 1], as attacks return them. The order within a victim's batch is free.
        truth: the same shape, or (B, C, H, W) for a single victim.

    Raises:
        GradwireError: shapes that do not fit, or values outside [0, 1].
    """
    truth = truth[None] if truth.ndim == guess.ndim - 1 else truth
    found = match(guess, truth)
    similarity = ssim(found, truth)
    return Score(mse(found, truth), psnr(found, truth), similarity, success(similarity))
