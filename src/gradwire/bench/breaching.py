"""breaching (J. Geiping and others), timed on the bench's own images in an environment of its own.

It requires torchvision and, from PyPI, a CUDA build of PyTorch, so it is no dependency: whoever has it names a Python
that does, and `breaching_side` is run by that.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from gradwire import models
from gradwire.bench import breaching_side
from gradwire.data import Dataset
from gradwire.errors import GradwireError

LIMIT = 3600
"""Seconds that the other Python may take."""


@dataclass(frozen=True)
class BreachingResult:
    """What breaching came to.

    Attributes:
        images: shape (V, 1, C, H, W).
        milliseconds: an image and iteration, the median over images.
        version: of breaching, and `torch`, of the PyTorch that it ran on.
    """

    images: Tensor
    milliseconds: float
    version: str
    torch: str


def check(python: str) -> None:
    """Refuse a Python that cannot be run, or has no breaching, before anything is timed."""
    _run(python, "-c", "from importlib.metadata import version; version('breaching'); version('omegaconf')")


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
    """Attack images (V, C, H, W) one after another, from the starts (V, 1, C, H, W), in evaluation mode.

    Raises:
        GradwireError: no such Python, one without breaching, or one in which it fails; with its last line.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        job = {
            "model": model_name,
            "models": str(Path(models.__file__).parent),
            "shape": dataset.shape,
            "classes": dataset.num_classes,
            "mean": dataset.mean,
            "std": dataset.std,
            "iterations": iterations,
            "step": step,
            "tv": tv,
            "device": device,
            "threads": torch.get_num_threads(),
        }
        (folder / "job.json").write_text(json.dumps(job))
        tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
        tensors |= {"images": images, "labels": labels, "starts": starts}
        np.savez(folder / "job.npz", **{key: value.cpu().numpy() for key, value in tensors.items()})
        _run(python, str(breaching_side.__file__), name)
        said = json.loads((folder / "found.json").read_text())
        found = torch.from_numpy(np.load(folder / "found.npz")["images"])
        return BreachingResult(found.to(device), said["milliseconds"], said["version"], said["torch"])


def _run(python: str, *arguments: str) -> None:
    try:
        ended = subprocess.run([python, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GradwireError(f"--breaching {python} cannot be run: {error}") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise GradwireError(f"--breaching {python} fails: {last}")
