"""Similarity of reconstructed and true images: MSE, PSNR, SSIM.

Every metric takes `guess` and `truth` of one shape, N×C×H×W or V×B×C×H×W, with values in [0, 1] (data range 1), and
gives one figure a victim: float64, shape [V], on the CPU; the mean of its B images' figures. Errors are `by_victim`'s.
"""

import torch
from torch import Tensor

from gradwire.errors import GradwireError

PSNR_CAP = 100.0
"""The highest PSNR that is reported, in dB: that of identical images is infinite, and so would be every mean."""

SUCCESS = 0.6
"""The SSIM from which a reconstruction counts as a success: the eye then recognises the image."""

ROUNDING = 1e-5
"""By how much values may lie outside [0, 1]: undoing a normalisation in float32 rounds."""


def mse(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over channels and pixels, from 0 (identical) to 1; shape [V]."""
    guess, truth = by_victim(guess, truth)
    return (guess - truth).square().mean(dim=(1, 2, 3, 4))


def psnr(guess: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10·log10(1/MSE) of each image, at most `PSNR_CAP`; shape [V]."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    guess, truth = by_victim(guess, truth)
    pair = guess.flatten(0, 1), truth.flatten(0, 1)
    decibels = peak_signal_noise_ratio(*pair, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return decibels.clamp(max=PSNR_CAP).unflatten(0, guess.shape[:2]).mean(dim=1)


def ssim(guess: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861), 1 for identical; shape [V].

    The window is a gaussian of sigma 1.5 and 11 px, narrower for images of less than 6 px a side (`ssim_sigma`, which
    refuses those of less than 2); K1 = 0.01, K2 = 0.03. The figure is the mean over channels and over all pixels,
    images being reflected at their borders, as in torchmetrics since 1.5.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    guess, truth = by_victim(guess, truth)
    # The map is taken and not torchmetrics' mean: the map is the same in all of its versions.
    _, similarity = structural_similarity_index_measure(
        guess.flatten(0, 1),
        truth.flatten(0, 1),
        sigma=ssim_sigma(*guess.shape[-2:]),
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    return similarity.unflatten(0, guess.shape[:2]).mean(dim=(1, 2, 3, 4))


def ssim_sigma(height: int, width: int) -> float:
    """The sigma, in px, of the gaussian SSIM window for images of this size: 1.5·r/5, for a window of r px each way.

    The window needs r pixels to reflect, so r is 5, or one less than the shorter side where that is below 6 px.

    Raises:
        GradwireError: a side is shorter than 2 px, where a window has no structure to compare.
    """
    if min(height, width) < 2:
        raise GradwireError(f"an image of {height}×{width} px is too small for SSIM; each side must be 2 px or more")
    return 1.5 * min(5, min(height, width) - 1) / 5


def success(ssim: Tensor) -> Tensor:
    """Which reconstructions succeeded: SSIM ≥ `SUCCESS`; a boolean tensor of the same shape."""
    return ssim >= SUCCESS


def by_victim(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Checks two sets of images and arranges them as V×B×C×H×W, on the CPU in float64: nearly flat images vary, too.

    Raises:
        GradwireError: the shapes differ or are not of images, or a value is not finite or outside [0, 1].
    """
    if guess.shape != truth.shape:
        raise GradwireError(f"guess has shape {_shape(guess)} and truth {_shape(truth)}; they must be the same")
    return _images("guess", guess), _images("truth", truth)


def _images(name: str, images: Tensor) -> Tensor:
    if images.ndim not in (4, 5):
        raise GradwireError(f"{name} has shape {_shape(images)}; images are N×C×H×W, or V×B×C×H×W for batches")
    if images.numel() == 0:
        raise GradwireError(f"{name} has shape {_shape(images)}: it holds no image")
    images = images.detach().to("cpu", torch.float64)
    if not torch.isfinite(images).all():
        raise GradwireError(f"{name} holds a value that is not finite; images must lie in [0, 1]")
    low, high = images.min().item(), images.max().item()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise GradwireError(f"{name} has values from {low:.4g} to {high:.4g}; images must lie in [0, 1]")
    images = images.clamp(0, 1)
    return images if images.ndim == 5 else images.unsqueeze(1)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "()"
