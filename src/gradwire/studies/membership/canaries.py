"""Canaries: examples that a model knows only if it has seen them; a coin decides which are in a training set."""

from dataclasses import replace

import torch
from torch import Tensor

from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.seeds import generator

KINDS = ("mislabelled", "random")


def parse(spec: str) -> tuple[str, int]:
    """The kind and number in a spec such as `mislabelled:100`; ("", 0) in an empty one.

    Raises:
        GradwireError: another kind, or a number below 2.
    """
    if not spec:
        return "", 0
    kind, _, number = spec.partition(":")
    if kind not in KINDS or not number.isdigit() or int(number) < 2:
        raise GradwireError(f"canaries is {spec!r}; it must be {' or '.join(f'{k}:NUMBER' for k in KINDS)}, at least 2")
    return kind, int(number)


def plant(dataset: Dataset, spec: str, seed: int) -> tuple[Dataset, Tensor]:
    """Turn some of the images, chosen at random, into canaries; returns the data set and their positions, ascending.

    `mislabelled:100` gives 100 images a wrong label; `random:100` replaces 100 images, but not their labels, by noise.

    Raises:
        GradwireError: as `parse`; more canaries than half of the images; one class alone, which leaves no wrong label.
    """
    kind, count = parse(spec)
    if 2 * count > len(dataset):
        raise GradwireError(f"canaries is {spec!r}; of {len(dataset)} candidates at most {len(dataset) // 2} can be")
    random = generator("canaries", seed)
    where = torch.randperm(len(dataset), generator=random)[:count].sort().values
    images, labels = dataset.inputs, dataset.targets
    if kind == "mislabelled":
        if dataset.outputs < 2:
            raise GradwireError(f"canaries is {spec!r}; with one class alone no label is wrong")
        off = torch.randint(1, dataset.outputs, (count,), generator=random)
        labels = labels.index_copy(0, where, (labels[where] + off) % dataset.outputs)
    elif kind == "random":
        noise = torch.rand((count, *dataset.shape), generator=random)
        pixels = noise if images.is_floating_point() else (256 * noise).to(images.dtype)
        images = images.index_copy(0, where, pixels)
    return replace(dataset, inputs=images, targets=labels), where
