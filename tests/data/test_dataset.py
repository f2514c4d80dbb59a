import dataclasses
import re

import pytest
import torch

from gradwire.data import Dataset, image_dataset
from gradwire.data.dataset import copy_within, fingerprints
from gradwire.errors import GradwireError


def make(**changes: object) -> Dataset:
    fields = {
        "name": "toy",
        "split": "test",
        "images": torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 2, 2),
        "labels": torch.tensor([1, 0]),
        "classes": ("cat", "dog"),
    }
    return image_dataset(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_it_says_of_itself() -> None:
    dataset = make()
    assert len(dataset) == 2
    assert dataset.shape == (3, 2, 2)
    assert dataset.outputs == 2
    assert repr(dataset) == "Dataset('toy', 'test', 2×3×2×2 torch.uint8, 2 outputs)"


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().name = "other"  # type: ignore[misc]


def test_bytes_become_the_unit_range() -> None:
    images, labels = make(
        images=torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), labels=torch.tensor([0, 1, 1])
    ).batch([2, 1])
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == pytest.approx([1.0, 0.2])
    assert labels.tolist() == [1, 1]


def test_a_batch_by_tensor_or_range_is_the_same() -> None:
    dataset = make()
    by_tensor, by_range = dataset.batch(torch.tensor([0, 1])), dataset.batch(range(2))
    assert all(torch.equal(a, b) for a, b in zip(by_tensor, by_range, strict=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_statistics_are_those_of_the_unit_images(dtype: torch.dtype) -> None:
    values = torch.randint(256, (3000, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = values if dtype == torch.uint8 else values / 255
    dataset = make(images=images, labels=torch.zeros(3000, dtype=torch.int64))
    unit = values.double() / 255
    assert dataset.mean == pytest.approx(unit.mean((0, 2, 3)).tolist(), abs=1e-7)
    assert dataset.std == pytest.approx(unit.std((0, 2, 3), correction=0).tolist(), abs=1e-7)
    assert dataset.mean is dataset.mean


def test_a_constant_channel_has_no_deviation() -> None:
    assert make(images=torch.full((2, 1, 3, 3), 0.1)).std == pytest.approx((0.0,), abs=1e-7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.tensor([0, 2])}, "the label of example 1 is 2; with 2 classes it must be from 0 to 1"),
        ({"labels": torch.tensor([-1, 0])}, "the label of example 0 is -1"),
        ({"labels": torch.tensor([0.0, 1.0])}, "targets are torch.float32"),
        ({"labels": torch.tensor([0])}, "2 images but 1 targets"),
        ({"images": torch.zeros(2, 4, 4)}, "must be N×C×H×W"),
        ({"images": torch.zeros(2, 1, 4, 4, dtype=torch.float64)}, "images are torch.float64"),
        ({"images": torch.zeros(0, 1, 4, 4), "labels": torch.zeros(0, dtype=torch.int64)}, "no images"),
        ({"images": torch.tensor([0.5, 1.5]).view(2, 1, 1, 1)}, "image 1 holds the value 1.5; float images must lie"),
        ({"images": torch.tensor([-0.25, 0.5]).view(2, 1, 1, 1)}, "image 0 holds the value -0.25"),
        ({"images": torch.tensor([0.5, float("nan")]).view(2, 1, 1, 1)}, "image 1 holds the value nan"),
        ({"images": torch.tensor([0.5, float("inf")]).view(2, 1, 1, 1)}, "image 1 holds the value inf"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)
    assert "'toy'" in str(caught.value)


def test_the_first_repetition_is_found() -> None:
    images = torch.randint(256, (6, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert copy_within(fingerprints(make(images=images, labels=torch.zeros(len(images), dtype=torch.int64)))) is None
    images[4] = images[1]
    assert copy_within(fingerprints(make(images=images, labels=torch.zeros(len(images), dtype=torch.int64)))) == (1, 4)


def test_one_pixel_makes_another_image() -> None:
    images = torch.zeros(2, 1, 3, 3)
    assert copy_within(fingerprints(make(images=images, labels=torch.zeros(len(images), dtype=torch.int64)))) == (0, 1)
    images[1, 0, 0, 0] = 1e-7
    assert copy_within(fingerprints(make(images=images, labels=torch.zeros(len(images), dtype=torch.int64)))) is None
