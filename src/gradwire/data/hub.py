"""Data sets of the Hugging Face hub, from the hub or from parquet files in its form at hand."""

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gradwire.data.dataset import Dataset, image_dataset
from gradwire.data.pictures import Mode, decode
from gradwire.errors import GradwireError, in_line

ROOT_VARIABLE = "GRADWIRE_DATA"  # names the folder of data sets at hand


@dataclass(frozen=True)
class Source:
    """Where a data set is on the hub, and how its table is laid out.

    Attributes:
        repo: the hub's `owner/name`.
        classes: how many classes there are; they are numbered where the table does not name them.
        image: the column of pictures, each a struct with a field `bytes`; or of text, where `mode` is "text".
        label: the column of class numbers.
        mode: one channel (`L`) or three (`RGB`); or "text".
        splits: the hub's name of a split, where it has another one.
    """

    repo: str
    classes: int = 10
    image: str = "image"
    label: str = "label"
    mode: Mode | Literal["text"] = "RGB"
    splits: dict[str, str] = field(default_factory=dict)


SOURCES = {
    "mnist": Source("ylecun/mnist", mode="L"),
    "fashion_mnist": Source("zalando-datasets/fashion_mnist", mode="L"),
    "cifar10": Source("uoft-cs/cifar10", image="img"),
    "cifar100": Source("uoft-cs/cifar100", classes=100, image="img", label="fine_label"),
    # The labels of the real test set were never published: its 10,000 validation images serve as the test split.
    "tiny_imagenet": Source("zh-plus/tiny-imagenet", classes=200, splits={"test": "valid"}),
    # Nor were those of SST-2, whose validation sentences are taken.
    "sst2": Source("stanfordnlp/sst2", classes=2, image="sentence", mode="text", splits={"test": "validation"}),
}


def load_hub(name: str, split: str, limit: int | None = None) -> Dataset:
    """Load pictures of `SOURCES`, from `$GRADWIRE_DATA/NAME/SPLIT-*.parquet` where that folder exists, as uint8.

    Raises:
        GradwireError: a folder without this split, a file that cannot be read, or a hub that cannot be reached.
    """
    folder = _at_hand(name)
    if folder is None:
        return image_dataset(name, split, *_pictures(name, split, limit))
    changed = tuple((str(file), file.stat().st_mtime_ns) for file in sorted(folder.glob(f"{split}-*.parquet")))
    return image_dataset(name, split, *_remembered(name, split, limit, changed))


@lru_cache(maxsize=4)
def _remembered(name: str, split: str, limit: int | None, changed: object) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The pictures of files that were `changed` at these times: a study's cells load the same ones again and again."""
    return _pictures(name, split, limit)


def _pictures(name: str, split: str, limit: int | None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (N, C, H, W), labels (N,) and the classes' names."""
    import pyarrow as pa  # type: ignore[import-untyped]

    source = SOURCES[name]
    assert source.mode != "text"
    table, classes = rows(name, split, limit)
    # A null label becomes -1, which the data set refuses by its position.
    labels = torch.from_numpy(table.column(source.label).cast(pa.int64()).fill_null(-1).to_numpy().copy())
    stored = [(cell or {}).get("bytes") or b"" for cell in table.column(source.image).to_pylist()]
    images = decode(stored, source.mode, lambda index: f"{index} of {name} ({split})")
    return images, labels, classes or tuple(map(str, range(source.classes)))


def rows(name: str, split: str, limit: int | None = None) -> tuple[Any, tuple[str, ...]]:
    """The table of one of `SOURCES` (a `pyarrow.Table` of two columns), and the names of its classes where it has any.

    Raises:
        GradwireError: as `load_hub`.
    """
    source, folder = SOURCES[name], _at_hand(name)
    table, classes = _read(folder, source, split, limit) if folder else _download(source, split, limit)
    if table.num_rows == 0:
        what = "sentences" if source.mode == "text" else "images"
        raise GradwireError(f"data {name!r} ({split}) has no {what} in it; at least one is needed")
    return table, classes


def _at_hand(name: str) -> Path | None:
    """The folder of a data set at hand, where there is one."""
    root = os.environ.get(ROOT_VARIABLE)
    return folder if root and (folder := Path(root) / name).is_dir() else None


def _download(source: Source, split: str, limit: int | None) -> tuple[Any, tuple[str, ...]]:
    """Fetch a table and its class names from the hub, or from the `datasets` library's cache of it."""
    import datasets

    try:
        remote = datasets.load_dataset(source.repo, split=source.splits.get(split, split))
    # The library, the hub's client and the HTTP client below it each have their own errors for "not reached".
    except Exception as error:
        raise GradwireError(
            f"cannot load {source.repo!r} from the Hugging Face hub: {type(error).__name__}: {in_line(error)}; "
            f"set {ROOT_VARIABLE} to a folder that holds NAME/{{train,test}}-*.parquet to do without it"
        ) from error
    names = getattr(remote.features[source.label], "names", ())
    return remote.with_format("arrow")[:limit], tuple(names)


def _read(folder: Path, source: Source, split: str, limit: int | None) -> tuple[Any, tuple[str, ...]]:
    """Read a table of two columns from `folder/SPLIT-*.parquet`, in the order of the file names, and its class names.

    pyarrow reads them, not `datasets`, which would first copy the files into its own cache.
    """
    import pyarrow as pa
    import pyarrow.dataset  # type: ignore[import-untyped]

    columns, files = [source.image, source.label], sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise GradwireError(f"data folder {folder} has no {split}-*.parquet; put the {split} split there")
    try:
        stored = pyarrow.dataset.dataset([str(file) for file in files], format="parquet")
        if missing := set(columns) - set(stored.schema.names):
            has = ", ".join(stored.schema.names)
            raise GradwireError(f"{files[0]} has no column {', '.join(sorted(missing))}; it has {has}")
        first = (pa.types.is_struct, "a struct with bytes")
        if source.mode == "text":
            first = (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)), "text"
        fits = first, (pa.types.is_integer, "whole numbers")
        for column, (right, wanted) in zip(columns, fits, strict=True):
            if not right(kind := stored.schema.field(column).type):
                raise GradwireError(f"{files[0]}: column {column} is {kind}; it must be {wanted}")
        table = stored.to_table(columns=columns) if limit is None else stored.head(limit, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise GradwireError(f"cannot read {folder}/{split}-*.parquet as parquet: {in_line(error)}") from error
    # The `datasets` library leaves the class names in a note in the schema.
    note = json.loads((stored.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    return table, tuple(features.get(source.label, {}).get("names", ()))


def mnist(split: str, limit: int | None = None) -> Dataset:
    """Handwritten digits, 28×28, grey (LeCun et al. 1998)."""
    return load_hub("mnist", split, limit)


def fashion_mnist(split: str, limit: int | None = None) -> Dataset:
    """Ten kinds of clothes, 28×28, grey (Xiao et al. 2017)."""
    return load_hub("fashion_mnist", split, limit)


def cifar10(split: str, limit: int | None = None) -> Dataset:
    """Photographs of ten kinds of things, 32×32, colour (Krizhevsky 2009)."""
    return load_hub("cifar10", split, limit)


def cifar100(split: str, limit: int | None = None) -> Dataset:
    """Photographs of a hundred kinds of things, 32×32, colour (Krizhevsky 2009)."""
    return load_hub("cifar100", split, limit)


def tiny_imagenet(split: str, limit: int | None = None) -> Dataset:
    """Photographs of 200 kinds of things, 64×64, colour (Le and Yang 2015)."""
    return load_hub("tiny_imagenet", split, limit)
