"""breaching (J. Geiping and others), timed on the bench's own images in a Python that has it.

It is no dependency, for it requires torchvision and, from PyPI, a CUDA build of PyTorch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gradwire import models
from gradwire.bench.others import SCRIPTS, run
from gradwire.bench.others.job import load, save
from gradwire.data import Dataset

OPTION, LIMIT = "--breaching", 3600


@dataclass(frozen=True)
class BreachingResult:
    """What breaching came to.

    Attributes:
        images: shape (V, 1, C, H, W).
        milliseconds: an image and iteration, the median over images.
    """

    images: Tensor
    milliseconds: float


def check(python: str) -> None:
    """Refuses a Python that cannot be run, or has no breaching, before anything is timed."""
    run(OPTION, python, "-c", "from importlib.metadata import version; version('breaching'); version('omegaconf')")


def breaching(
    python: str,
    model_name: str,
    model: nn.Module,
    dataset: Dataset,
    images: Tensor,
    labels: Tensor,
    starts: Tensor,
    *,
    iterations: int,
    step: float,
    tv: float,
    device: str,
) -> BreachingResult:
    """Attacks images (V, C, H, W) one after another, from the starts (V, 1, C, H, W), in evaluation mode.

    Raises:
        GradwireError: as `run`.
    """
    settings: dict[str, object] = {"model": model_name, "models": str(Path(models.__file__).parent), "device": device}
    settings |= {"shape": dataset.shape, "classes": dataset.outputs, "mean": dataset.mean, "std": dataset.std}
    settings |= {"iterations": iterations, "step": step, "tv": tv, "threads": torch.get_num_threads()}
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    tensors |= {"images": images, "labels": labels, "starts": starts}
    with TemporaryDirectory() as folder:
        Path(folder, "job.json").write_text(json.dumps(settings))
        save(folder, "job", {key: value.cpu() for key, value in tensors.items()})
        run(OPTION, python, str(SCRIPTS / "inversion_by_breaching.py"), folder, limit=LIMIT)
        found = load(folder, "found")
    return BreachingResult(found["images"].to(device), float(found["milliseconds"]))
