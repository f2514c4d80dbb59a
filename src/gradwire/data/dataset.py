"""Labelled images, in the one form that all of gradwire takes, and copies among them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import xxhash
from torch import Tensor

from gradwire.errors import GradwireError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images of one size, checked when made.

    Attributes:
        name: what the data set is called in tables.
        split: `train` or `test`.
        images: N×C×H×W, uint8 (0 to 255) or float32 (in [0, 1]).
        labels: N class numbers, int64.
        classes: the name of each class; a label is a position in this tuple.

    Raises:
        GradwireError: no images; a wrong shape or dtype; a label outside the classes; a pixel that is not in [0, 1].
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if wrong := self._wrong():
            raise GradwireError(f"data {self.name!r} ({self.split}): {wrong}")

    def __repr__(self) -> str:
        size = "×".join(map(str, self.images.shape))
        return f"Dataset({self.name!r}, {self.split!r}, {size} {self.images.dtype}, {self.num_classes} classes)"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """The number of classes, whether or not each occurs in this split."""
        return len(self.classes)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """The images (len(indices)×C×H×W, float32 in [0, 1]) and labels (int64) at these positions."""
        where = torch.as_tensor(indices, dtype=torch.int64)
        return _unit(self.images[where]), self.labels[where]

    def part(self, where: Tensor) -> "Dataset":
        """The data set of the images at these positions, or under this mask."""
        return replace(self, images=self.images[where], labels=self.labels[where])

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over all pixels, on the scale [0, 1]."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Population standard deviation of each channel over all pixels, on the scale [0, 1]."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        channels, height, width = self.shape
        pixels = len(self) * height * width
        total, squares = torch.zeros(2, channels, dtype=torch.float64)
        for chunk in self.images.split(1024):  # no float64 copy of all images is made
            values = _unit(chunk).double()
            total += values.sum(dim=(0, 2, 3))
            squares += values.square().sum(dim=(0, 2, 3))
        mean = total / pixels
        std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())

    def _wrong(self) -> str | None:
        """What is wrong with the images or labels."""
        images, labels, classes = self.images, self.labels, self.num_classes
        if images.dim() != 4 or images.dtype not in (torch.uint8, torch.float32):
            form, wanted = f"{images.dtype} of shape {tuple(images.shape)}", "uint8 or float32, N×C×H×W"
            return f"images are {form}; they must be {wanted}"
        if labels.dim() != 1 or labels.dtype != torch.int64:
            return f"labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be int64, one an image"
        if len(images) != len(labels):
            return f"{len(images)} images but {len(labels)} labels; each needs one"
        if images.numel() == 0:
            return "there are no images in it; at least one is needed"
        outside = ((labels < 0) | (labels >= classes)).nonzero()
        if len(outside):
            label = f"the label of image {int(outside[0])} is {int(labels[outside[0]])}"
            return f"{label}; with {classes} classes it must be from 0 to {classes - 1}"
        # Written so that NaN, which compares false with everything, counts as outside.
        if images.is_floating_point() and len(outside := (~((images >= 0) & (images <= 1))).nonzero()):
            value = float(images[tuple(outside[0])])
            return f"image {int(outside[0, 0])} holds the value {value:g}; float images must lie in [0, 1]"
        return None


def _unit(images: Tensor) -> Tensor:
    """The images as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def fingerprints(dataset: Dataset) -> list[bytes]:
    """A digest of every image's pixels: equal for equal images, and in practice for no others."""
    return [xxhash.xxh3_128_digest(image.numpy().tobytes()) for image in dataset.images]


def copy_within(prints: list[bytes]) -> tuple[int, int] | None:
    """The positions of the first image that repeats an earlier one, the earlier one first; None if none does."""
    first: dict[bytes, int] = {}
    for position, digest in enumerate(prints):
        if digest in first:
            return first[digest], position
        first[digest] = position
    return None
