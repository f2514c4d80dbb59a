"""A user's own images: a folder of class folders."""

from pathlib import Path

import numpy as np
import torch

from gradwire.data.dataset import Dataset
from gradwire.data.pictures import decode, survey
from gradwire.data.splits import SPLITS, holdout, shuffled
from gradwire.errors import GradwireError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""The files of a class folder that are taken as images, in either case; others are passed over."""

ClassFolders = dict[str, list[Path]]
"""Class name → its picture files, both in the order of their names."""


def load_folder(folder: Path, split: str, limit: int | None = None) -> Dataset:
    """Load `folder/{train,test}/CLASS/*.png`, or `folder/CLASS/*.png`, which is divided here.

    Without split folders a fixed 80 % of each class is the train split and the other 20 % the test split
    (`gradwire.data.splits.holdout`). The images come in a fixed, shuffled order, so that the first few are of several
    classes. They are uint8; one channel if every image of the folder is gray, three otherwise. Of a moving picture
    the first frame is taken. Both splits have the same classes and channels, whichever is asked for.

    Raises:
        GradwireError: no class folders with images, images of mixed sizes, an image that cannot be read, a split
            without images.
    """
    divided = {name: found for name in SPLITS if (found := _class_folders(folder / name))}
    if divided and split not in divided:
        raise GradwireError(f"data folder {folder} has {', '.join(divided)} but no {split} with class folders; add it")
    layout = divided or {"": _class_folders(folder)}

    classes = sorted({name for found in layout.values() for name in found})
    if not classes:
        suffixes = " ".join(sorted(SUFFIXES))
        raise GradwireError(f"data folder {folder} has no class folders with images in them ({suffixes})")
    mode = survey([path for found in layout.values() for paths in found.values() for path in paths])

    asked = layout[split if divided else ""]
    paths = [path for name in asked for path in asked[name]]
    labels = np.array([classes.index(name) for name in asked for _ in asked[name]], dtype=np.int64)
    chosen = (shuffled(len(paths)) if divided else holdout(labels, split))[:limit]
    if len(chosen) == 0:
        raise GradwireError(
            f"data folder {folder} leaves no image for {split}; a class needs two or more to be divided"
        )

    picked = [paths[index] for index in chosen]
    return Dataset(
        name=folder.resolve().name,
        split=split,
        images=decode(picked, mode, lambda index: str(picked[index])),
        labels=torch.from_numpy(labels[chosen]),
        classes=tuple(classes),
    )


def _class_folders(folder: Path) -> ClassFolders:
    """Find the folders in `folder` that hold pictures; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    visible = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {entry.name: paths for entry in visible if (paths := _pictures(entry))}


def _pictures(folder: Path) -> list[Path]:
    # "._name.png" and the like are notes that other systems leave beside the pictures.
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
