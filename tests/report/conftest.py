import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gradwire.report.rows import AUDIT_COLUMNS, TRAIN_COLUMNS

SCHEMES = {"none": 1.0, "powersgd:rank=4": 38.0, "topk:match_rank=4": 37.0}
SIMILARITY = {
    ("none", "naive"): (0.9, 0.9),
    ("none", "adaptive"): (0.7, 0.9),
    ("powersgd:rank=4", "naive"): (0.1, 0.3),
    ("powersgd:rank=4", "adaptive"): (0.5, 0.9),
    ("topk:match_rank=4", "naive"): (0.2, 0.2),
    ("topk:match_rank=4", "adaptive"): (0.3, 0.3),
}


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """One attack on one victim."""

    def make(scheme: str = "none", knowledge: str = "naive", ssim: float = 0.9, **others: Any) -> dict[str, Any]:
        values: dict[str, Any] = dict.fromkeys(AUDIT_COLUMNS, 0)
        values |= {"data": "digits", "model": "convnet", "device": "cpu", "mode": "eval", "attack": "iga", "batch": 1}
        values |= {"scheme": scheme, "knowledge": knowledge, "adversary": "server", "psnr": 20.0, "mse": 0.01}
        values |= {"ratio": SCHEMES.get(scheme, 2.0), "bytes_up": int(38000 / SCHEMES.get(scheme, 2.0))}
        return values | {"ssim": ssim, "success": ssim >= 0.6} | others

    return make


@pytest.fixture
def rows(row: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Two victims, three schemes, both knowledges."""
    return [
        row(scheme, knowledge, ssim, victim=victim)
        for (scheme, knowledge), values in SIMILARITY.items()
        for victim, ssim in enumerate(values)
    ]


@pytest.fixture
def training_rows() -> list[dict[str, Any]]:
    """Two schemes, two seeds, evaluated before and after ten rounds."""
    return [
        dict(zip(TRAIN_COLUMNS, values, strict=True))
        for scheme, ratio, accuracies in (("none", 1.0, (0.9, 0.8)), ("powersgd:rank=4", 38.0, (0.8, 0.7)))
        for seed, accuracy in enumerate(accuracies)
        for values in (
            ("digits", "mlp", scheme, seed, "cpu", 0.0, 0, 0, ratio, 0, 0.0, "", 2.3, 0.1),
            ("digits", "mlp", scheme, seed, "cpu", 5.0, int(1e6 / ratio), 1e6, ratio, 10, 1.0, 0.5, 0.6, accuracy),
        )
    ]


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """A run folder as a command leaves it."""

    def make(rows: Sequence[dict[str, Any]], pictures: bool = True, name: str = "run", **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "config.json").write_text(json.dumps({"command": "audit", "settings": {}, "notes": []} | config))
        if pictures:
            images = torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
            cells = {f"{row['scheme']}|{row['attack']}|{row['knowledge']}": images.clone() for row in rows}
            save_file({"originals": images, **cells}, folder / "reconstructions.safetensors")
        return folder

    return make
