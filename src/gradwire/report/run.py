"""A run folder, read: results.csv, config.json, and what an attack rebuilt."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwire.errors import GradwireError
from gradwire.report.domain import OPTION, PIXELS, RunDomain
from gradwire.report.rows import COLUMNS, Kind, Row, require
from gradwire.runs import CONFIG, CURVES, EXAMPLES, RECONSTRUCTIONS, RESULTS

if TYPE_CHECKING:
    from torch import Tensor

Inputs = list[list[list[list[Any]]]]
"""Inputs as people read them, victim by victim and example by example: cells of a name, a text and, of a guess, whether
it is right."""


@dataclass(frozen=True)
class Run:
    """What a command left behind.

    Attributes:
        kind: what the rows measure: "train", "audit" (inversion), "recorded" (inversion of a step whose batch nobody
            showed) or "membership"; "advise": a screening of schemes; "epsilon": what canaries prove of ε; "study":
            cells of several of these; benchmarks are "network" (steps on links), "speed" (inversion) and "cost"
            (secure sums).
        rows: the measurements, in the file's order; never empty.
        config: `config.json`, or {} where there is none.
        pictures: tensors V×B×C×H×W in [0, 1] called "originals" and "<scheme>|<attack>|<knowledge>"; {} without.
        notes: sentences for the reader: those of the run, and what the folder lacks.
        curves: float64 (2, P) for "<scheme>|<attack>|<knowledge>": the shares of non-members and of members that are
            called members; {} without.
        domain: what the run's inputs are.
        examples: inputs called "originals" and "<scheme>|<attack>|<knowledge>", of domains that are no pictures; {}
            without.
    """

    folder: Path
    kind: Kind
    rows: list[Row]
    config: dict[str, Any]
    pictures: dict[str, "Tensor"]
    notes: list[str]
    curves: dict[str, "Tensor"] = field(default_factory=dict)
    domain: RunDomain = PIXELS
    examples: dict[str, Inputs] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The options that the command ran with."""
        return _settings(self.config)


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        GradwireError: no results.csv, no rows or columns missing in it, or a file that cannot be read.
    """
    rows, columns = _results(folder / RESULTS)
    config, notes = _config(folder / CONFIG)
    kind = _kind(config, columns)
    domain = _domain(config, folder)
    scores = domain.scores if kind == "audit" else ()
    require(columns, (*COLUMNS[kind], *scores), str(folder / RESULTS))
    pictures = _pictures(folder / RECONSTRUCTIONS) if kind == "audit" and domain.pictures else {}
    examples = _examples(folder / EXAMPLES) if kind == "audit" and not domain.pictures else {}
    curves = _curves(folder / CURVES) if kind == "membership" else {}
    if kind == "audit" and "originals" not in pictures | examples:
        pictures, examples = {}, {}
        missing = RECONSTRUCTIONS if domain.pictures else EXAMPLES
        here = "pictures here" if domain.pictures else f"{domain.what} to be seen here"
        notes.append(f"This folder has no {missing} with the originals, so there are no {here}.")
    return Run(folder, kind, rows, config, pictures, notes, curves, domain, examples)


def domain_of(folder: Path) -> RunDomain:
    """The domain of a run, without its results; `GradwireError` for a config.json that cannot be read."""
    return _domain(_config(folder / CONFIG)[0], folder)


def _domain(config: dict[str, Any], folder: Path) -> RunDomain:
    return RunDomain.of(config.get(OPTION, _settings(config).get(OPTION)), str(folder / CONFIG))


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    settings = config.get("settings")
    return settings if isinstance(settings, dict) else {}


def _kind(config: dict[str, Any], columns: list[str]) -> Kind:
    unique: tuple[Kind, ...] = ("advise", "epsilon", "study", "network", "speed", "cost", "lies")
    for kind in unique:
        if set(COLUMNS[kind]) <= set(columns):
            return kind
    if config.get("command") == "membership" or "balanced_accuracy" in columns:
        return "membership"
    if "labels" in columns and "success" not in columns:
        return "recorded"
    return "train" if config.get("command") == "train" or "train_loss" in columns else "audit"


def _results(path: Path) -> tuple[list[Row], list[str]]:
    if not path.is_file():
        raise GradwireError(f"{path.parent} holds no {path.name}; give the folder that a gradwire command wrote")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GradwireError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise GradwireError(f"{path} has no rows; there is nothing to report")
    return rows, columns


def _config(path: Path) -> tuple[dict[str, Any], list[str]]:
    if not path.is_file():
        return {}, [f"This folder has no {path.name}, so the settings of the run are not known."]
    config = _object(path, "command and settings")
    notes = config.get("notes") or []
    return config, [notes] if isinstance(notes, str) else [str(note) for note in notes]


def _object(path: Path, entries: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GradwireError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise GradwireError(f"{path} holds a {type(found).__name__}; it should be an object with {entries}")
    return found


def _examples(path: Path) -> dict[str, Inputs]:
    """The originals and guesses of a file; {} without it. Guesses have one flag more a cell than originals."""
    if not path.is_file():
        return {}
    found = _object(path, "originals and guesses")
    for key, inputs in found.items():
        length = 2 if key == "originals" else 3
        cells = "[name, text]" if length == 2 else "[name, text, right]"
        try:
            good = all(len(c) == length and isinstance(c[1], str) for v in inputs for example in v for c in example)
        except (TypeError, KeyError):
            good = False
        if not good:
            raise GradwireError(f"{path} holds {key!r} in another form; it should be victims of examples of {cells}")
    return found


def _tensors(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a file; {} without it."""
    if not path.is_file():
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise GradwireError(f"{path} cannot be read as safetensors: {error}") from error


def _curves(path: Path) -> dict[str, "Tensor"]:
    curves = _tensors(path)
    for name, points in curves.items():
        if points.ndim != 2 or len(points) != 2:
            raise GradwireError(f"{path} holds {name!r} of shape {tuple(points.shape)}; a curve is (2, points)")
    return curves


def _pictures(path: Path) -> dict[str, "Tensor"]:
    pictures = _tensors(path)
    shapes = {tuple(images.shape) for images in pictures.values()}
    if len(shapes) > 1 or any(len(shape) != 5 for shape in shapes):
        raise GradwireError(f"{path} holds tensors of shapes {sorted(shapes)}; all must be one V×B×C×H×W")
    return {name: images.float() for name, images in pictures.items()}
