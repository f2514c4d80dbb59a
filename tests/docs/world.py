"""What the pages take to be there: a folder with a user's own files."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from tests.docs.markdown import DOCS, ROOT, blocks

NORMED = """from torch import nn


def make(shape, classes):
    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.LazyLinear(classes))
"""
"""As docs/measurements/leaks.md describes it, smaller."""
OUTSIDE = ROOT / "examples" / "outside"


def furnish(folder: Path) -> None:
    """Write the files that commands and examples name."""
    random = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(12):
            picture = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "photos" / kind / f"{number}.png")
    _install(folder)
    (folder / "normed.py").write_text(NORMED)
    (folder / "mynet.py").write_text(next(b.text for b in blocks(DOCS / "own-model.md") if b.marks.get("file")))
    people(200).to_csv(folder / "people.csv", index=False)
    words = np.array(["fine", "poor", "good", "bad", "dull", "bright", "long", "short"])
    reviews = {"review": [" ".join(random.choice(words, 5)) for _ in range(60)], "stars": random.integers(1, 4, 60)}
    pd.DataFrame(reviews).to_csv(folder / "reviews.csv", index=False)
    members = np.arange(400) < 200
    losses = random.exponential(np.where(members, 0.3, 1.0))
    scores = {"example": np.arange(400), "member": members.astype(int), "score": losses}
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    (folder / "mine.txt").write_text("".join(f"{number}\n" for number in range(100)))
    torch.save({}, folder / "model.pt")


def people(rows: int) -> pd.DataFrame:
    """A table of people."""
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "age": random.integers(18, 90, rows),
            "children": random.integers(0, 4, rows),
            "zip": random.choice(["1010", "1020", "1030"], rows),
            "ill": random.integers(0, 2, rows),
            "old": random.integers(0, 2, rows),
            "income": random.choice(["high", "low"], rows),
        }
    )


def _install(folder: Path) -> None:
    """The example package as an installer leaves it: its modules, and its entry points beside them."""
    for module in OUTSIDE.glob("*.py"):
        (folder / module.name).write_text(module.read_text())
    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    told = folder / f"gradwire_outside-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = ""
    for group, known in project["entry-points"].items():
        points += f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in known.items())
    (told / "entry_points.txt").write_text(points)
