"""Known facts about the real data sets, where $GRADWIRE_DATA has them."""

import os
from pathlib import Path

import pytest

from gradwire import data

pytestmark = [
    pytest.mark.data,
]


def load(name: str, split: str = "test", limit: int | None = None) -> data.Dataset:
    if not (Path(os.environ["GRADWIRE_DATA"]) / name).is_dir():
        pytest.skip(f"$GRADWIRE_DATA has no {name}")
    return data.load(name, split, limit)


@pytest.mark.parametrize(
    ("name", "shape", "mean", "std"),
    [
        ("mnist", (1, 28, 28), (0.1307,), (0.3081,)),
        ("fashion_mnist", (1, 28, 28), (0.2860,), (0.3530,)),
        ("cifar10", (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ("cifar100", (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ],
)
def test_the_well_known_statistics(
    name: str, shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    # The figures that everybody uses are those of the whole train split; the test split comes near.
    dataset = load(name)
    assert len(dataset) == 10_000
    assert dataset.shape == shape
    assert dataset.mean == pytest.approx(mean, abs=0.005)
    assert dataset.std == pytest.approx(std, abs=0.005)


@pytest.mark.parametrize(
    ("name", "label", "class_name"), [("mnist", 7, "7"), ("fashion_mnist", 9, "Ankle boot"), ("cifar10", 3, "cat")]
)
def test_the_first_test_image(name: str, label: int, class_name: str) -> None:
    dataset = load(name, limit=1)
    assert dataset.targets.tolist() == [label]
    assert dataset.classes[label] == class_name


def test_every_class_of_the_test_set_is_as_frequent() -> None:
    assert load("fashion_mnist").targets.bincount().tolist() == [1000] * 10
    assert load("cifar100").targets.bincount().tolist() == [100] * 100


def test_the_first_train_images() -> None:
    assert load("mnist", "train", limit=5).targets.tolist() == [5, 0, 4, 1, 9]
    assert load("cifar10", "train", limit=5).targets.tolist() == [6, 9, 9, 4, 1]
