"""The one form in which labelled images travel through gradwire."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradwire.errors import GradwireError

# Statistics are summed over this many images at a time, so that no float64 copy of a whole data set is ever made.
_CHUNK = 1024


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
        self._check_form()
        self._check_labels()
        if self.images.is_floating_point():
            self._check_range()

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
        """How many classes there are, whether or not each occurs in this split."""
        return len(self.classes)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Give the images (len(indices)×C×H×W, float32 in [0, 1]) and labels (int64) at these positions."""
        where = torch.as_tensor(indices, dtype=torch.int64)
        return _unit(self.images[where]), self.labels[where]

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
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros(channels, dtype=torch.float64)
        for chunk in self.images.split(_CHUNK):
            values = _unit(chunk).double()
            total += values.sum(dim=(0, 2, 3))
            squares += values.square().sum(dim=(0, 2, 3))
        pixels = len(self) * height * width
        mean = total / pixels
        std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())

    def _check_form(self) -> None:
        where = f"data {self.name!r} ({self.split})"
        if self.images.dim() != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            form = f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            raise GradwireError(f"{where}: images are {form}; they must be uint8 or float32, N×C×H×W")
        if self.labels.dim() != 1 or self.labels.dtype != torch.int64:
            form = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise GradwireError(f"{where}: labels are {form}; they must be int64, one an image")
        if len(self.images) != len(self.labels):
            raise GradwireError(f"{where}: {len(self.images)} images but {len(self.labels)} labels; each needs one")
        if self.images.numel() == 0:
            raise GradwireError(f"{where}: there are no images in it; at least one is needed")

    def _check_labels(self) -> None:
        outside = (self.labels < 0) | (self.labels >= self.num_classes)
        if outside.any():
            index = int(outside.nonzero()[0])
            raise GradwireError(
                f"data {self.name!r} ({self.split}): the label of image {index} is {int(self.labels[index])}; "
                f"with {self.num_classes} classes it must be from 0 to {self.num_classes - 1}"
            )

    def _check_range(self) -> None:
        # Written so that NaN, which compares false with everything, counts as outside.
        outside = ~((self.images >= 0) & (self.images <= 1))
        if outside.any():
            position = tuple(outside.nonzero()[0].tolist())
            raise GradwireError(
                f"data {self.name!r} ({self.split}): image {position[0]} holds the value "
                f"{float(self.images[position]):g}; float images must lie in [0, 1]"
            )


def _unit(images: Tensor) -> Tensor:
    """Bring images to float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
