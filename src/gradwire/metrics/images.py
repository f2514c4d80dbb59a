"""Similarity of reconstructed and true images: MSE, PSNR, SSIM.

Every metric takes `guess` and `truth` of one shape, N×C×H×W or V×B×C×H×W, with values in [0, 1] (data range 1), and
gives one figure for each victim: a double-precision tensor of shape [V] on the CPU. For a batch of B images per victim
it is the mean of the B images' figures. They raise `GradwireError` for shapes that differ and for values that are not
finite or outside [0, 1].
"""

from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics._victims import by_victim

PSNR_CAP = 100.0
"""The highest PSNR that is reported, in dB. Identical images have an infinite one, which no mean survives."""

SUCCESS = 0.6
"""The SSIM from which a reconstruction counts as a success: by eye, the image is then recognised."""

_SIGMA, _HALF_WINDOW = 1.5, 5


def mse(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over channels and pixels, from 0 (identical) to 1; shape [V]."""
    guess, truth = by_victim(guess, truth)
    return (guess - truth).square().mean(dim=(1, 2, 3, 4))


def psnr(guess: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10·log10(1/MSE) of each image, at most `PSNR_CAP`; shape [V]."""
    # Imported when needed: torchmetrics takes seconds, which no command that measures nothing should pay.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    guess, truth = by_victim(guess, truth)
    decibels = peak_signal_noise_ratio(
        guess.flatten(0, 1), truth.flatten(0, 1), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return decibels.clamp(max=PSNR_CAP).unflatten(0, guess.shape[:2]).mean(dim=1)


def ssim(guess: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861), 1 for identical; shape [V].

    The window is a gaussian of sigma 1.5 and 11 px; K1 = 0.01 and K2 = 0.03. Every pixel is the centre of one window,
    images being reflected at their borders, and the figure is the mean over pixels and channels. That is the default of
    torchmetrics since 1.5; earlier ones left the 5 px at each border out. Images of less than 6 px a side get the
    narrower window of `ssim_sigma`.

    Raises:
        GradwireError: as all metrics, and for images of less than 2 px a side.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    guess, truth = by_victim(guess, truth)
    # The map, not the mean, is taken from torchmetrics: the map is the same in all of its versions.
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
    """The sigma, in px, of the gaussian SSIM window for images of this size: 1.5 wherever the window fits.

    A window that reaches r px to each side needs r pixels to reflect, so the shorter side must be at least r + 1. The
    standard window has r = 5; below 6 px, r is the largest that fits and sigma shrinks with it, 1.5·r/5.

    Raises:
        GradwireError: a side is shorter than 2 px, where no window has any structure to compare.
    """
    if min(height, width) < 2:
        raise GradwireError(f"an image of {height}×{width} px is too small for SSIM; each side must be 2 px or more")
    return _SIGMA * min(_HALF_WINDOW, min(height, width) - 1) / _HALF_WINDOW


def success(ssim: Tensor) -> Tensor:
    """Which reconstructions succeeded: SSIM ≥ `SUCCESS`; a boolean tensor of the same shape."""
    return ssim >= SUCCESS
