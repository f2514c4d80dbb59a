"""breaching (J. Geiping and others), timed on the bench's own images in a Python that has it.

It is no dependency, for it requires torchvision and, from PyPI, a CUDA build of PyTorch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from gradwire import models
from gradwire.bench import others
from gradwire.data import Dataset

OPTION, LIMIT = "--breaching", 3600


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
    """Refuses a Python that cannot be run, or has no breaching, before anything is timed."""
    others.run(
        OPTION, python, "-c", "from importlib.metadata import version; version('breaching'); version('omegaconf')"
    )


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
        GradwireError: as `others.run`.
    """
    job: dict[str, object] = {"model": model_name, "models": str(Path(models.__file__).parent), "device": device}
    job |= {"shape": dataset.shape, "classes": dataset.num_classes, "mean": dataset.mean, "std": dataset.std}
    job |= {"iterations": iterations, "step": step, "tv": tv, "threads": torch.get_num_threads()}
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    tensors |= {"images": images, "labels": labels, "starts": starts}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "job.npz", **{key: value.cpu().numpy() for key, value in tensors.items()})
        others.run(OPTION, python, str(others.SCRIPTS / "inversion_by_breaching.py"), name, limit=LIMIT)
        said = json.loads((folder / "found.json").read_text())
        found = torch.from_numpy(np.load(folder / "found.npz")["images"]).to(device)
    return BreachingResult(found, said["milliseconds"], said["version"], said["torch"])
