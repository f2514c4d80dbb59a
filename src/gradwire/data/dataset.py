"""Labelled examples, in the one form that all of gradwire takes, and copies among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from gradwire import models
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, Pixels, Task, parse_loss


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and their targets, checked when made.

    Attributes:
        name: what the data set is called in tables.
        split: `train` or `test`.
        inputs: N×…, as the task's domain stores them: images are uint8 (0 to 255) or float32 (in [0, 1]).
        targets: one an input, as the task's loss takes them: class numbers are int64, (N,).
        task: the domain of the inputs, and the loss.

    Raises:
        GradwireError: no inputs, inputs outside the domain, targets that do not suit the loss.
    """

    name: str
    split: str
    inputs: Tensor
    targets: Tensor
    task: Task

    def __post_init__(self) -> None:
        try:
            self._check()
        except GradwireError as error:
            raise GradwireError(f"data {self.name!r} ({self.split}): {error}") from None

    def __repr__(self) -> str:
        size = "×".join(map(str, self.inputs.shape))
        return f"Dataset({self.name!r}, {self.split!r}, {size} {self.inputs.dtype}, {self.outputs} outputs)"

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input: channels, height and width of an image."""
        return self.task.domain.shape

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for an example: one a class, whether or not each occurs in this split."""
        return self.task.loss.outputs

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, where targets are classes; a label is a position in this tuple."""
        return self.task.loss.classes

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """The inputs, as networks take them, and the targets at these positions."""
        where = torch.as_tensor(indices, dtype=torch.int64)
        return self.task.domain.read(self.inputs[where]), self.targets[where]

    def network(self, spec: str | Callable[..., nn.Module], seed: int | None = None, raw: bool = False) -> nn.Module:
        """An untrained network for these data, of `models.build`; the first layer of one of ours standardises images.

        Args:
            raw: leave images as they are.
        """
        scale: tuple[Any, Any] = (None, None) if raw else (self.mean, self.std)
        return models.build(spec, self.shape, self.outputs, *scale, seed, self.task.domain.facts)

    def under(self, loss: str) -> "Dataset":
        """The data set with another loss of its targets: see `tasks.parse_loss`; "" is its own."""
        return replace(self, task=replace(self.task, loss=parse_loss(loss, self.task.loss)))

    def part(self, where: Tensor) -> "Dataset":
        """The data set of the examples at these positions, or under this mask."""
        return replace(self, inputs=self.inputs[where], targets=self.targets[where])

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean of each channel of images over all pixels, on the scale [0, 1]; None of other inputs."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...] | None:
        """Population standard deviation of each channel, as `mean`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        if not isinstance(self.task.domain, Pixels):
            return None, None
        channels, height, width = self.shape
        pixels = len(self) * height * width
        total, squares = torch.zeros(2, channels, dtype=torch.float64)
        for chunk in self.inputs.split(1024):  # no float64 copy of all images is made
            values = self.task.domain.read(chunk).double()
            total += values.sum(dim=(0, 2, 3))
            squares += values.square().sum(dim=(0, 2, 3))
        mean = total / pixels
        std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())

    def _check(self) -> None:
        """Refuse inputs or targets that do not fit the task."""
        domain, inputs = self.task.domain, self.inputs
        if len(inputs) != len(self.targets):
            raise GradwireError(f"{len(inputs)} {domain.what} but {len(self.targets)} targets; each needs one")
        if inputs.numel() == 0:
            raise GradwireError(f"there are no {domain.what} in it; at least one is needed")
        domain.check_stored(inputs)
        self.task.loss.check(self.targets, len(inputs))


def image_dataset(
    name: str, split: str, images: Tensor, labels: Tensor, classes: Sequence[str], network: str = ""
) -> Dataset:
    """A data set of images (N×C×H×W, uint8 or float32 in [0, 1]) and class numbers (N,), positions in `classes`.

    Args:
        network: the spec of the one that is usual for them. [default: convnet]
    """
    if images.ndim != 4:
        raise GradwireError(f"data {name!r} ({split}): images have shape {tuple(images.shape)}; they must be N×C×H×W")
    task = Task(Pixels(tuple(images.shape[1:])), CrossEntropy(tuple(classes)), network)
    return Dataset(name, split, images, labels, task)


def fingerprints(dataset: Dataset) -> list[bytes]:
    """A digest of every input: equal for equal inputs, and in practice for no others."""
    return [xxhash.xxh3_128_digest(each.contiguous().numpy().tobytes()) for each in dataset.inputs]


def copy_within(prints: list[bytes]) -> tuple[int, int] | None:
    """The positions of the first input that repeats an earlier one, the earlier one first; None if none does."""
    first: dict[bytes, int] = {}
    for position, digest in enumerate(prints):
        if digest in first:
            return first[digest], position
        first[digest] = position
    return None
