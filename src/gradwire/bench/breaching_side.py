"""The far side of the comparison with breaching: a script for a Python that has it, where gradwire is not installed.

    PYTHON breaching_side.py FOLDER

FOLDER holds job.json and job.npz, which `gradwire.bench.breaching` wrote; found.npz and found.json are written there.
Of gradwire only the models are loaded, and of breaching the attack: each package's own `__init__` would bring in all
the rest, data sets and torchvision among it, which takes no part in what is timed.
"""

import importlib.util
import json
import sys
import time
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

WARM = 2
"""Iterations that are run, and timed, apart: their time is taken off that of the longer run."""


def bare(name: str, path: Path) -> None:
    """Let `name`'s modules be imported without running its `__init__`."""
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


def load() -> tuple[Any, Any]:
    """Breaching's module of attacks by optimisation, and its settings of the attack of Geiping et al."""
    spec = importlib.util.find_spec("breaching")
    assert spec is not None
    root = Path(next(iter(spec.submodule_search_locations or ())))
    for name in ("breaching", "breaching.cases", "breaching.cases.models"):
        bare(name, root.joinpath(*name.split(".")[1:]))
    omegaconf = importlib.import_module("omegaconf").OmegaConf
    names = ("_default_optimization_attack", "invertinggradients")
    defaults, own = (omegaconf.load(root / "config" / "attack" / f"{name}.yaml") for name in names)
    own.pop("defaults")
    return importlib.import_module("breaching.attacks.optimization_based_attack"), omegaconf.merge(defaults, own)


def attacker(kinds: Any, config: Any, model: torch.nn.Module, iterations: int, job: dict[str, Any]) -> Any:
    """The attack with the bench's step size and weights, and plain signed steps."""
    config = config.copy()
    config.optim.update(optimizer="gd", step_size=job["step"], step_size_decay=None, max_iterations=iterations)
    config.regularization.total_variation.scale = job["tv"]
    setup = {"device": torch.device(job["device"]), "dtype": torch.float}
    return kinds.OptimizationBasedAttacker(model, torch.nn.CrossEntropyLoss(), config, setup)


def attack(model: torch.nn.Module, image: torch.Tensor, label: torch.Tensor, start: torch.Tensor, of: Any) -> Any:
    """One victim's image as breaching reconstructs it."""
    loss = torch.nn.functional.cross_entropy(model(image), label)
    gradients = [g.detach() for g in torch.autograd.grad(loss, list(model.parameters()))]
    told = types.SimpleNamespace(shape=tuple(image.shape[1:]), modality="vision")
    sent = {"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": told}
    got = {
        "gradients": gradients,
        "buffers": None,
        "metadata": {"labels": label, "num_data_points": 1, "local_hyperparams": None},
    }
    return of.reconstruct([sent], [got], {}, initial_data=start)[0]["data"]


def main(folder: Path) -> None:
    """Attack each image after the other, and write the images found and the milliseconds an iteration."""
    job = json.loads((folder / "job.json").read_text())
    arrays = np.load(folder / "job.npz")
    torch.set_num_threads(job["threads"])
    kinds, config = load()
    bare("gradwire", Path(job["models"]).parent)
    build = importlib.import_module("gradwire.models").build
    model = build(job["model"], tuple(job["shape"]), job["classes"], job["mean"], job["std"], seed=0)
    state = {name: torch.from_numpy(arrays[f"model/{name}"]) for name in model.state_dict()}
    model.load_state_dict(state)
    model.to(job["device"]).eval()
    images, labels, starts = (
        torch.from_numpy(arrays[name]).to(job["device"]) for name in ("images", "labels", "starts")
    )
    found, times = [], []
    for image, label, start in zip(images, labels, starts, strict=True):
        seconds = []
        for iterations in (WARM, WARM + job["iterations"]):
            of = attacker(kinds, config, model, iterations, job)
            started = time.perf_counter()
            reached = attack(model, image[None], label[None], start, of)
            seconds.append(time.perf_counter() - started)
        found.append(reached.detach().cpu().numpy())
        times.append(1000 * (seconds[1] - seconds[0]) / job["iterations"])
    np.savez(folder / "found.npz", images=np.stack(found))
    said = {"milliseconds": sorted(times)[len(times) // 2], "version": version("breaching"), "torch": torch.__version__}
    (folder / "found.json").write_text(json.dumps(said))


if __name__ == "__main__":
    # A script's own folder comes first, and this one holds a breaching.py.
    sys.path.pop(0)
    main(Path(sys.argv[1]))
