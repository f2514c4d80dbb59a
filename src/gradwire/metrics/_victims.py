"""What every image metric takes: two equally shaped sets of images, arranged by victim."""

import torch
from torch import Tensor

from gradwire.errors import GradwireError

# Undoing a normalisation in float32 can step out of the box by a few units in the last place.
ROUNDING = 1e-5


def by_victim(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Check two sets of images and arrange them as V×B×C×H×W, in double precision on the CPU.

    Double precision keeps the variances of nearly flat images, and the CPU makes the figures independent of the
    device that the attack ran on.

    Args:
        guess: images in [0, 1], N×C×H×W (one image a victim) or V×B×C×H×W (B images a victim).
        truth: images of the same shape.

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
