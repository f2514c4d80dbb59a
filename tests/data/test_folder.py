import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradwire import data
from gradwire.errors import GradwireError


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    color: int | tuple[int, ...] = value if mode == "L" else (value,) * len(mode)
    Image.new(mode, size, color).save(path)
    return path


def classes_of(folder: Path, per_class: int = 10, mode: str = "RGB") -> Path:
    for index in range(per_class):
        picture(folder / "cat" / f"{index}.png", mode=mode, value=index)
        picture(folder / "dog" / f"{index}.png", mode=mode, value=100 + index)
    return folder


def test_class_folders_are_divided_without_overlap(tmp_path: Path) -> None:
    train, test = (data.load(classes_of(tmp_path / "pets"), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (16, 4)
    assert train.name == "pets"
    assert train.classes == ("cat", "dog")
    assert test.shape == (3, 4, 6)
    assert test.targets.bincount().tolist() == [2, 2]
    seen = [*train.inputs[:, 0, 0, 0].tolist(), *test.inputs[:, 0, 0, 0].tolist()]
    assert sorted(seen) == [*range(10), *range(100, 110)]


def test_labels_go_with_their_images(tmp_path: Path) -> None:
    dataset = data.load(classes_of(tmp_path), "train")
    assert torch.equal(dataset.targets, (dataset.inputs[:, 0, 0, 0] >= 100).long())


def test_the_same_folder_gives_the_same_order(tmp_path: Path) -> None:
    first, second = (data.load(classes_of(tmp_path / name), "train") for name in ("a", "b"))
    assert torch.equal(first.inputs, second.inputs)


def test_split_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    classes_of(tmp_path / "train", per_class=3)
    picture(tmp_path / "test" / "dog" / "0.png")
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert (len(train), len(test)) == (6, 1)
    assert train.classes == test.classes == ("cat", "dog")
    assert test.targets.tolist() == [1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for index in range(5):
            picture(tmp_path / name / f"{index}.png")
    assert data.load(tmp_path, "train").classes == ("bus", "train")


def test_gray_stays_gray_and_a_mixture_becomes_colour_in_both_splits(tmp_path: Path) -> None:
    classes_of(tmp_path / "train", mode="L")
    classes_of(tmp_path / "test", mode="L")
    assert data.load(tmp_path, "test").shape == (1, 4, 6)
    picture(tmp_path / "train" / "cat" / "colour.png", mode="RGB")
    assert data.load(tmp_path, "test").shape == (3, 4, 6)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "PNG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    for index in range(2):
        picture(tmp_path / "a" / f"{index}.{suffix}")
    assert len(data.load(tmp_path)) == 1


def test_transparency_and_palettes_are_read_as_colour(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "0.png", mode="RGBA", value=7)
    Image.new("RGB", (6, 4), (7, 7, 7)).convert("P").save(tmp_path / "a" / "1.png")
    assert data.load(tmp_path, "train").shape == (3, 4, 6)


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    classes_of(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "cat" / "._0.png").write_text("not a picture")
    (tmp_path / "docs").mkdir()
    picture(tmp_path / ".hidden" / "0.png")
    assert data.load(tmp_path).classes == ("cat", "dog")


def test_a_limit_decodes_no_more(tmp_path: Path) -> None:
    classes_of(tmp_path)
    few = data.load(tmp_path, "train", limit=3)
    assert torch.equal(few.inputs, data.load(tmp_path, "train").inputs[:3])


def fails(folder: Path, message: str, split: str = "test") -> None:
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        data.load(folder, split)
    assert "\n" not in str(caught.value)


def test_a_folder_without_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    fails(tmp_path, f"data folder {tmp_path} has no class folders with images in them")


def test_class_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    fails(tmp_path, "has no class folders with images in them")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    classes_of(tmp_path / "train")
    fails(tmp_path, f"data folder {tmp_path} has train but no test with class folders")


def test_nothing_left_for_test(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "0.png")
    fails(tmp_path, "leaves no image for test")


def test_mixed_sizes_are_named(tmp_path: Path) -> None:
    classes_of(tmp_path)
    other = picture(tmp_path / "dog" / "0.png", size=(5, 4))
    fails(tmp_path, f"{tmp_path / 'cat' / '0.png'} is 6×4 and {other} is 5×4")


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    classes_of(tmp_path)
    broken = tmp_path / "dog" / "0.png"
    broken.write_bytes(b"not a picture")
    fails(tmp_path, f"cannot read image {broken}")


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    for index in range(2):
        path = tmp_path / "a" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    fails(tmp_path, "cannot read image")


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for index in range(2):
        Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "a" / f"{index}.png")
    fails(tmp_path, "save it with 8 bits a channel")
