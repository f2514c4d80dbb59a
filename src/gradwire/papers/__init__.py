"""Three papers as data: their studies (`studies/*.toml`), the figures that they print, and what they claim.

`published/NAME.csv` holds the tables of a paper in gradwire's spelling, a figure a line, as printed, with a note where
the paper contradicts itself. `published/NAME-claims.csv` holds their sentences.
"""

import csv
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAPERS = {
    "trust": "Trustworthiness of Stochastic Gradient Descent in Distributed Learning",
    "ssga": "Secure Sparse Gradient Aggregation in Distributed Architectures",
    "lmc": "Learned Model Compression for Efficient and Privacy-Preserving Federated Learning",
}
"""What a paper is called here → its title."""
KEYS = ("data", "model", "partition", "batch_size", "local_epochs", "attack", "scheme")
"""The columns that say under which setting a figure was published; empty ones do not matter."""


def names() -> tuple[str, ...]:
    """The studies."""
    return tuple(sorted(path.stem for path in (HERE / "studies").glob("*.toml")))


def study(name: str) -> dict[str, Any]:
    """What the file of a study holds."""
    return tomllib.loads((HERE / "studies" / f"{name}.toml").read_text(encoding="utf-8"))


@lru_cache(None)
def claims(paper: str) -> Mapping[str, Mapping[str, str]]:
    """Id → where the paper says it, the claim, its figure and unit."""
    return {row["id"]: row for row in _read(f"{paper}-claims")}


@lru_cache(None)
def figures(paper: str) -> Sequence[Mapping[str, str]]:
    """What the tables of a paper hold, a figure each."""
    return _read(paper)


def matches(value: object, wanted: object) -> bool:
    """Whether a value is one of those wanted: `topk:ratio=0.1` is also what `topk` says, and not what `topk:` does."""
    several = [str(each) for each in (wanted if isinstance(wanted, list | tuple) else (wanted,))]
    return any(str(value) == each or str(value).startswith(f"{each}:") or f"{value}:" == each for each in several)


def published(paper: str, table: str, figure: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The figure that a paper has for the setting that all these rows share; None where it has none for it."""
    for found in figures(paper) if rows else ():
        if (found["table"], found["figure"]) == (table, figure) and all(
            not found[key] or matches(row.get(key, ""), found[key]) for key in KEYS for row in rows
        ):
            return float(found["value"])
    return None


def _read(name: str) -> list[dict[str, str]]:
    with (HERE / "published" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
