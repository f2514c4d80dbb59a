"""Pictures: C×H×W pixels in [0, 1]."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire import metrics
from gradwire.errors import GradwireError
from gradwire.tasks.domain import Domain


@dataclass(frozen=True)
class Pixels(Domain):
    """Images in [0, 1]; a data set may store them as bytes, 0 to 255.

    Attributes:
        shape: channels, height and width.
    """

    name: ClassVar[str] = "pixels"
    what: ClassVar[str] = "images"
    scores: ClassVar[tuple[str, ...]] = ("ssim", "mse", "psnr")
    enough: ClassVar[float | str] = metrics.SUCCESS
    network: ClassVar[str] = "convnet"

    shape: tuple[int, ...]

    def check(self, inputs: Tensor) -> None:
        """Refuse what is not images of this shape in [0, 1]."""
        if inputs.ndim != 4 or not len(inputs) or inputs.shape[1:] != self.shape:
            wanted = ", ".join(map(str, ("B", *self.shape)))
            raise GradwireError(f"images have shape {tuple(inputs.shape)}; they must be ({wanted}), B ≥ 1")
        low, high = float(inputs.min()), float(inputs.max())
        if not (low >= 0 and high <= 1):
            raise GradwireError(f"images lie in [{low:g}, {high:g}]; they must lie in [0, 1]")

    def check_stored(self, stored: Tensor) -> None:
        """Refuse another type than uint8 and float32, and float32 outside [0, 1], by position."""
        if stored.ndim != 4 or stored.dtype not in (torch.uint8, torch.float32):
            form = f"{stored.dtype} of shape {tuple(stored.shape)}"
            raise GradwireError(f"images are {form}; they must be uint8 or float32, N×C×H×W")
        # Written so that NaN, which compares false with everything, counts as outside.
        if stored.is_floating_point() and len(outside := (~((stored >= 0) & (stored <= 1))).nonzero()):
            value = float(stored[tuple(outside[0])])
            raise GradwireError(
                f"image {int(outside[0, 0])} holds the value {value:g}; float images must lie in [0, 1]"
            )

    def read(self, stored: Tensor) -> Tensor:
        """Bytes as float32 in [0, 1]."""
        return stored.float() / 255 if stored.dtype == torch.uint8 else stored

    def bounds(self) -> tuple[float, float]:
        """Black and white."""
        return 0.0, 1.0

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Noise around mid-grey."""
        return (0.5 + 0.25 * torch.randn(*size, *self.shape, generator=random)).clamp(0, 1)

    def matched(self, guess: Tensor, truth: Tensor) -> Tensor:
        """By the pairing of least total MSE."""
        return metrics.match(guess, truth)

    def score(self, guess: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        """SSIM, MSE and PSNR."""
        return {name: getattr(metrics, name)(guess, truth) for name in ("mse", "psnr", "ssim")}

    def cells(self, inputs: Tensor) -> None:
        """They are pictures."""
