"""Parquet files in the hub's form: a column of encoded pictures, a column of class numbers."""

import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.dataset  # type: ignore[import-untyped]

from gradwire.errors import GradwireError


def read(folder: Path, split: str, image: str, label: str, limit: int | None) -> tuple[pa.Table, tuple[str, ...]]:
    """Read two columns of `folder/SPLIT-*.parquet`, in the order of the file names.

    pyarrow and not `datasets`: the latter would first copy the files into its own cache.

    Args:
        folder: where the files are.
        split: how their names begin.
        image: the column of pictures, each a struct with a field `bytes`.
        label: the column of class numbers.
        limit: read no more than this many rows.

    Returns:
        The table of these two columns, and the class names, empty where the files do not give them.

    Raises:
        GradwireError: no such files, files that are not parquet, or files whose columns are not so.
    """
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise GradwireError(f"data folder {folder} has no {split}-*.parquet; put the {split} split there")
    try:
        stored = pyarrow.dataset.dataset([str(file) for file in files], format="parquet")
        _check_columns(stored.schema, image, label, str(files[0]))
        columns = [image, label]
        table = stored.to_table(columns=columns) if limit is None else stored.head(limit, columns=columns)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise GradwireError(f"cannot read {files[0].parent}/{split}-*.parquet as parquet: {reason}") from error
    return table, _class_names(stored.schema, label)


def _check_columns(schema: pa.Schema, image: str, label: str, file: str) -> None:
    missing = {image, label} - set(schema.names)
    if missing:
        raise GradwireError(f"{file} has no column {', '.join(sorted(missing))}; it has {', '.join(schema.names)}")
    if not pa.types.is_struct(schema.field(image).type):
        raise GradwireError(f"{file}: column {image} is {schema.field(image).type}; it must be a struct with bytes")
    if not pa.types.is_integer(schema.field(label).type):
        raise GradwireError(f"{file}: column {label} is {schema.field(label).type}; it must be whole numbers")


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Find the class names in the note that the `datasets` library leaves in a parquet schema."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    return tuple(features.get(label, {}).get("names", ()))
