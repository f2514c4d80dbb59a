"""A user's own images: a folder of class folders."""

from pathlib import Path

import numpy as np
import torch

from gradwire.data.dataset import Dataset, image_dataset
from gradwire.data.pictures import decode, survey
from gradwire.data.splits import SPLITS, holdout, shuffled
from gradwire.errors import GradwireError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""The files of a class folder that are taken as images, in either case; others are passed over."""


def load_folder(folder: Path, split: str, limit: int | None = None) -> Dataset:
    """Load `folder/{train,test}/CLASS/*.png`, or `folder/CLASS/*.png`, which is divided here.

    Without split folders a fixed 80 % of each class is the train split and the other 20 % the test split
    (`gradwire.data.splits.holdout`). The images come in a fixed, shuffled order, so that the first few are of several
    classes. They are uint8, with one channel if every image of the folder is gray and three otherwise; a moving picture
    gives its first frame. Both splits have the same classes and channels.

    Raises:
        GradwireError: no class folders with images, mixed sizes, an unreadable image, a split without images.
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
        raise GradwireError(f"data folder {folder} leaves no image for {split}; a class needs two or more")
    picked = [paths[index] for index in chosen]
    return image_dataset(
        folder.resolve().name,
        split,
        images=decode(picked, mode, lambda index: str(picked[index])),
        labels=torch.from_numpy(labels[chosen]),
        classes=tuple(classes),
    )


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """The folders in `folder` that hold pictures: name → files, both in the order of their names."""
    if not folder.is_dir():
        return {}
    # "._name.png" and the like are notes that other systems leave beside the pictures.
    folders = {
        entry.name: [path for path in _visible(entry) if path.suffix.lower() in SUFFIXES]
        for entry in _visible(folder)
        if entry.is_dir()
    }
    return {name: paths for name, paths in folders.items() if paths}


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
