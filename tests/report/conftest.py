import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gradwire.report.rows import AUDIT_COLUMNS, AUDIT_FACTS, TRAIN_COLUMNS

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


TABLE = {
    "name": "columns",
    "what": "rows",
    "scores": ["fields", "numbers_right", "categories_right", "whole_rows"],
    "higher": True,
    "assumed": "It knows the 3 fields of the table.",
    "success": 0.9,
}
TEXT = {
    "name": "tokens",
    "what": "sentences",
    "scores": ["positions", "token_precision", "token_recall", "exact", "rouge1", "rouge2", "rougeL"],
    "higher": True,
    "assumed": "It knows the tokenizer (4096 tokens).",
}
OUTSIDE = {"name": "series", "what": "series", "scores": ["warping_distance", "phase"], "higher": False, "assumed": ""}
LEVELS = {"none": (0.9, 1.0), "powersgd:rank=4": (0.6, 0.9), "topk:match_rank=4": (0.5, 0.7)}
ROW = [["age", "39"], ["hours", "40"], ["job", "Prof-specialty | <b>"]]
SENTENCE = [["", token] for token in ("[CLS]", "a", "touch", "##ing", "story", "<script>", "[SEP]")]


@pytest.fixture
def write_domain(write_run: Callable[..., Path]) -> Callable[..., Path]:
    """The folder of an audit of another domain: three schemes, both adversaries, `victims` victims of two examples.

    `original` are the cells of every example; of what the naive adversary guessed of a scheme, the last two are wrong.
    """

    def make(
        domain: dict[str, Any], original: list[list[str]] | None, uninformed: object = "", victims: int = 4
    ) -> Path:
        rows, examples = [], {"originals": [[original] * 2] * victims} if original else {}
        for scheme, levels in LEVELS.items():
            for knowledge, level in zip(("naive", "adaptive"), levels, strict=True):
                scores = dict.fromkeys(domain["scores"], level if domain["higher"] else 1.001 - level)
                facts = {
                    **dict.fromkeys(AUDIT_FACTS, 0),
                    **{"data": "adult", "model": "mlp", "device": "cpu", "attack": "fields", "batch": 2},
                    **{"scheme": scheme, "knowledge": knowledge, "adversary": "server", "ratio": SCHEMES[scheme]},
                    **{"bytes_up": int(38000 / SCHEMES[scheme]), "uninformed": uninformed, "label_accuracy": ""},
                    **{"success": int(level >= 0.9), **scores},
                }
                rows += [facts | {"victim": victim} for victim in range(victims)]
                if original:
                    wrong = 2 if knowledge == "naive" else 0
                    right = len(original) - wrong
                    guess = [[n, t if i < right else f"not {t}", i < right] for i, (n, t) in enumerate(original)]
                    examples[f"{scheme}|fields|{knowledge}"] = [[guess] * 2] * victims
        folder = write_run(rows, pictures=False, name=domain["name"], domain=domain, settings={"labels": "known"})
        if original:
            (folder / "examples.json").write_text(json.dumps(examples))
        return folder

    return make


@pytest.fixture
def table_run(write_domain: Callable[..., Path]) -> Path:
    """An audit of rows of a table."""
    return write_domain(TABLE, ROW, uninformed=0.5)


@pytest.fixture
def text_run(write_domain: Callable[..., Path]) -> Path:
    """An audit of sentences."""
    return write_domain(TEXT, SENTENCE, uninformed=0.1)


@pytest.fixture
def outside_run(write_domain: Callable[..., Path]) -> Path:
    """An audit of a domain that gradwire does not know, whose leading score is the better the lower."""
    return write_domain(OUTSIDE, None)
