"""Data sets of the Hugging Face hub, or of parquet files in the hub's form at hand."""

import os
from functools import partial
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import torch

from gradwire.data import parquet
from gradwire.data.dataset import Dataset
from gradwire.data.pictures import decode
from gradwire.data.sources import SOURCES, Source
from gradwire.errors import GradwireError

ROOT_VARIABLE = "GRADWIRE_DATA"
"""The environment variable that names the folder of data sets at hand."""


def load_hub(name: str, split: str, limit: int | None = None) -> Dataset:
    """Load a data set of `gradwire.data.sources`, from `$GRADWIRE_DATA/NAME/SPLIT-*.parquet` where that folder exists.

    Images are uint8. Only the first `limit` are decoded.

    Raises:
        GradwireError: a folder without this split, a file that cannot be read, or a hub that cannot be reached.
    """
    source = SOURCES[name]
    folder = Path(os.environ.get(ROOT_VARIABLE, "")) / name
    if os.environ.get(ROOT_VARIABLE) and folder.is_dir():
        table, classes = parquet.read(folder, split, source.image, source.label, limit)
    else:
        table, classes = _download(source, split, limit)

    if table.num_rows == 0:
        raise GradwireError(f"data {name!r} ({split}) has no images in it; at least one is needed")
    # A null label becomes -1, which the data set refuses by its position.
    labels = torch.from_numpy(table.column(source.label).cast(pa.int64()).fill_null(-1).to_numpy().copy())
    pictures = [(cell or {}).get("bytes") or b"" for cell in table.column(source.image).to_pylist()]
    images = decode(pictures, source.mode, lambda index: f"{index} of {name} ({split})")
    numbered = tuple(str(number) for number in range(source.classes))
    return Dataset(name=name, split=split, images=images, labels=labels, classes=classes or numbered)


def _download(source: Source, split: str, limit: int | None) -> tuple[pa.Table, tuple[str, ...]]:
    """Fetch a split from the hub, or from the `datasets` library's cache of it."""
    import datasets  # slow to import, and not needed for data at hand

    try:
        remote = datasets.load_dataset(source.repo, split=source.splits.get(split, split))
    # The library, the hub's client and the HTTP client below it each have their own errors for "not reached".
    except Exception as error:
        reason = " ".join(str(error).split())
        raise GradwireError(
            f"cannot load {source.repo!r} from the Hugging Face hub: {type(error).__name__}: {reason}; "
            f"set {ROOT_VARIABLE} to a folder that holds NAME/{{train,test}}-*.parquet to do without it"
        ) from error
    names = getattr(remote.features[source.label], "names", ())
    return remote.with_format("arrow")[:limit], tuple(names)


mnist, fashion_mnist, cifar10, cifar100, tiny_imagenet = (partial(load_hub, name) for name in SOURCES)
