"""All image metrics of a guess at once."""

from dataclasses import dataclass

from torch import Tensor

from gradwire.metrics.images import mse, psnr, ssim, success
from gradwire.metrics.matching import match


@dataclass(frozen=True)
class Score:
    """How near a guess came, victim by victim.

    Attributes:
        images: the guess, each victim's images in the order of the true ones they are nearest to; shape of the guess.
        mse, psnr, ssim: double precision, shape [V]; a victim with several images has their mean. PSNR is in dB.
        success: SSIM ≥ 0.6; boolean, shape [V].
    """

    images: Tensor
    mse: Tensor
    psnr: Tensor
    ssim: Tensor
    success: Tensor


def score(guess: Tensor, truth: Tensor) -> Score:
    """Compare a guess with the truth, once the attack has chosen.

    Args:
        guess: images in [0, 1], V×B×C×H×W, or N×C×H×W with one image a victim.
        truth: as `guess`; for a guess of V×B images also (V·B)×C×H×W, victim by victim.

    Raises:
        GradwireError: shapes that do not fit, values that are not finite or outside [0, 1].
    """
    if guess.ndim == 5 and truth.shape == (guess.shape[0] * guess.shape[1], *guess.shape[2:]):
        truth = truth.reshape(guess.shape)
    images = match(guess, truth)
    similarity = ssim(images, truth)
    return Score(images, mse(images, truth), psnr(images, truth), similarity, success(similarity))
