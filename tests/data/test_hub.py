import io
import os
import re
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from PIL import Image

from gradwire import data
from gradwire.data import hub
from gradwire.data.pictures import decode
from gradwire.errors import GradwireError


def png(value: int, mode: str = "L", size: tuple[int, int] = (4, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0]), value, dtype=np.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def cells(pictures: list[bytes]) -> list[dict[str, bytes | None]]:
    return [{"bytes": picture, "path": None} for picture in pictures]


def write(folder: Path, columns: dict[str, object], file: str = "test-00000.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), folder / file)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADWIRE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_data_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADWIRE_DATA", raising=False)


def fails(message: str, name: str = "mnist") -> None:
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        data.load(name)
    assert "\n" not in str(caught.value)


def test_files_are_read_in_the_order_of_their_names(root: Path) -> None:
    for number in (1, 0):
        write(root / "mnist", {"image": cells([png(number)]), "label": [number]}, f"test-0000{number}.parquet")
    dataset = data.load("mnist")
    assert dataset.targets.tolist() == [0, 1]
    assert dataset.inputs[:, 0, 0, 0].tolist() == [0, 1]


def test_classes_without_names_are_numbered_whatever_the_limit(root: Path) -> None:
    write(root / "cifar100", {"img": cells([png(0), png(1)]), "fine_label": [3, 7]})
    dataset = data.load("cifar100", limit=1)
    assert len(dataset) == 1
    assert dataset.outputs == 100
    assert dataset.classes[3] == "3"


def test_gray_among_colour_becomes_colour(root: Path) -> None:
    write(root / "tiny_imagenet", {"image": cells([png(5, "RGB"), png(9, "L")]), "label": [0, 1]})
    dataset = data.load("tiny_imagenet")
    assert dataset.shape == (3, 4, 4)
    assert dataset.inputs[1].unique().tolist() == [9]


def test_a_limit_decodes_no_more(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0), b"broken"]), "label": [0, 1]})
    assert len(data.load("mnist", limit=1)) == 1
    fails("cannot read image 1 of mnist (test)")


def test_files_are_decoded_once_and_again_when_they_have_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(hub, "decode", lambda *given: decoded.append(given) or decode(*given))
    for value in (0, 9):
        write(root / "mnist", {"image": cells([png(value)]), "label": [0]})
        os.utime(root / "mnist" / "test-00000.parquet", ns=(value, value))
        assert [int(data.load("mnist").inputs[0, 0, 0, 0]) for _ in range(3)] == [value] * 3
    assert len(decoded) == 2


def test_a_missing_split(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0)]), "label": [0]}, "train-00000.parquet")
    fails(f"data folder {root / 'mnist'} has no test-*.parquet")


def test_a_missing_column(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0)]), "digit": [0]})
    fails("has no column label; it has image, digit")


def test_columns_of_another_kind(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0)]), "label": ["zero"]})
    fails("column label is string; it must be whole numbers")
    write(root / "mnist", {"image": [png(0)], "label": [0]})
    fails("column image is binary; it must be a struct with bytes")


def test_a_file_that_is_not_parquet(root: Path) -> None:
    (root / "mnist").mkdir()
    (root / "mnist" / "test-0.parquet").write_bytes(b"not parquet")
    fails("test-*.parquet as parquet")


def test_an_empty_table(root: Path) -> None:
    image = pa.array([], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    write(root / "mnist", {"image": image, "label": pa.array([], pa.int64())})
    fails("has no images in it")


def test_missing_values_are_named_by_position(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0), png(1)]), "label": [0, None]})
    fails("the label of example 1 is -1")
    write(root / "mnist", {"image": [*cells([png(0)]), None], "label": [0, 1]})
    fails("cannot read image 1 of mnist (test)")


def test_mixed_sizes(root: Path) -> None:
    write(root / "mnist", {"image": cells([png(0), png(1, size=(5, 4))]), "label": [0, 1]})
    fails("0 of mnist (test) is 4×4 and 1 of mnist (test) is 5×4")


@pytest.mark.usefixtures("no_data_at_hand")
def test_without_files_the_hub_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def load_dataset(repo: str, split: str) -> datasets.Dataset:
        asked.append((repo, split))
        features = datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=[f"n{number}" for number in range(200)])
        )
        return datasets.Dataset.from_dict({"image": cells([png(3), png(4)]), "label": [7, 8]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = data.load("tiny_imagenet", "test", limit=1)
    assert asked == [("zh-plus/tiny-imagenet", "valid")]
    assert dataset.targets.tolist() == [7]
    assert dataset.classes[7] == "n7"
    assert dataset.split == "test"


@pytest.mark.usefixtures("no_data_at_hand")
def test_a_hub_out_of_reach_names_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(repo: str, split: str) -> datasets.Dataset:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    fails("cannot load 'ylecun/mnist' from the Hugging Face hub: ConnectionError: no network; set GRADWIRE_DATA to")
