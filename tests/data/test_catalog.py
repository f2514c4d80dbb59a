import subprocess
import sys

import pytest
import torch

from gradwire import data
from gradwire.errors import GradwireError


def test_the_known_names() -> None:
    pictures, tables = (
        "digits photographs mnist fashion_mnist cifar10 cifar100 tiny_imagenet",
        "adult location30 diabetes linnerud",
    )
    assert data.names() == (*pictures.split(), *tables.split(), "sst2")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        GradwireError, match=r"unknown data 'cifar'; known: digits, photographs, .* folder of class folders"
    ):
        data.load("cifar")


def test_an_unknown_split_lists_the_known_ones() -> None:
    with pytest.raises(GradwireError, match="unknown split 'valid'; known: train, test"):
        data.load("digits", "valid")


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_is_positive(limit: int) -> None:
    with pytest.raises(GradwireError, match=f"limit is {limit}; it must be 1 or more"):
        data.load("digits", limit=limit)


def test_a_function_goes_before_a_folder_of_its_module(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "few.py").write_text(
        "def load(split, limit, most=9): raise ValueError(f'called with {most}')"
    )
    with pytest.raises(GradwireError, match="called with 3"):
        data.load("photos.few:load:most=3")
    with pytest.raises(GradwireError, match="module 'photos' has no 'load'"):
        data.load("photos:load")
    with pytest.raises(GradwireError, match="data folder photos has no class folders"):
        data.load("photos:train=3", "train")


def test_importing_the_room_imports_nothing_slow() -> None:
    slow = "{'datasets', 'sklearn', 'pyarrow', 'pandas', 'PIL'}"
    rooms = "gradwire.data.hub, gradwire.data.folder, gradwire.data.named_tables, gradwire.models"
    code = f"import sys, {rooms}; assert not {slow} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_whole_and_divided_without_overlap() -> None:
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.shape == test.shape == (1, 8, 8)
    assert test.classes == tuple("0123456789")
    both = torch.cat([train.inputs, test.inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 1797
    assert test.targets.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_are_sixteenths() -> None:
    images, _ = data.load("digits", "train").batch(range(100))
    assert images.max() == 1
    assert torch.equal((images * 16).round(), images * 16)


def test_the_digits_split_never_changes() -> None:
    # A published table names its victims by position in the test split.
    assert data.load("digits", "test").targets[:10].tolist() == [9, 9, 2, 6, 5, 9, 7, 7, 6, 7]


def test_a_limit_takes_the_first() -> None:
    few, all_of_them = data.load("digits", limit=5), data.load("digits", limit=10_000)
    assert len(few) == 5
    assert len(all_of_them) == 359
    assert torch.equal(few.inputs, all_of_them.inputs[:5])


def test_a_part_of_a_data_set_by_name():
    assert len(data.load("digits:train=12,test=7", "test")) == 7
    assert len(data.load("digits:train=12", "train")) == 12
    assert len(data.load("digits:train=12", "train", limit=5)) == 5
    with pytest.raises(GradwireError, match="train is 0; it must be 1 or more"):
        data.load("digits:train=0", "train")
    with pytest.raises(GradwireError, match="digits takes train, test, as key=value"):
        data.load("digits:trian=3", "train")
