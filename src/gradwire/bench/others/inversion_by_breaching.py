"""The attack of breaching on the bench's images: python inversion_by_breaching.py FOLDER.

FOLDER holds job.json and job.npz, which `gradwire.bench.breaching` wrote; found.npz and found.json are written there.
Only the models of gradwire are loaded, and only the attack of breaching: each package's own `__init__` would load all
the rest, torchvision among it, which takes no part in what is timed.
"""

import json
import sys
import time
import types
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

WARM_UP = 2
"""Iterations that are run, and timed, apart: their time is taken off that of the longer run."""


def bare(name: str, path: Path) -> None:
    """Lets `name`'s modules be imported without running its `__init__`."""
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


def load() -> tuple[Any, Any]:
    """Breaching's module of attacks by optimisation, and its settings of the attack of Geiping et al."""
    spec = find_spec("breaching")
    assert spec is not None
    root = Path(next(iter(spec.submodule_search_locations or ())))
    for name in ("breaching", "breaching.cases", "breaching.cases.models"):
        bare(name, root.joinpath(*name.split(".")[1:]))
    omegaconf = import_module("omegaconf").OmegaConf
    names = ("_default_optimization_attack", "invertinggradients")
    defaults, own = (omegaconf.load(root / "config" / "attack" / f"{name}.yaml") for name in names)
    own.pop("defaults")
    return import_module("breaching.attacks.optimization_based_attack"), omegaconf.merge(defaults, own)


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
    about = types.SimpleNamespace(shape=tuple(image.shape[1:]), modality="vision")
    server = {"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": about}
    victim = {"labels": label, "num_data_points": 1, "local_hyperparams": None}
    shared = {"gradients": gradients, "buffers": None, "metadata": victim}
    return of.reconstruct([server], [shared], {}, initial_data=start)[0]["data"]


def main(folder: Path) -> None:
    """Attacks one image after another; writes the images found and the milliseconds an iteration."""
    job, arrays = json.loads((folder / "job.json").read_text()), np.load(folder / "job.npz")
    torch.set_num_threads(job["threads"])
    kinds, config = load()
    bare("gradwire", Path(job["models"]).parent)
    build = import_module("gradwire.models").build
    model = build(job["model"], tuple(job["shape"]), job["classes"], job["mean"], job["std"], seed=0)
    model.load_state_dict({name: torch.from_numpy(arrays[f"model/{name}"]) for name in model.state_dict()})
    model.to(job["device"]).eval()
    victims = (torch.from_numpy(arrays[name]).to(job["device"]) for name in ("images", "labels", "starts"))
    found, times = [], []
    for image, label, start in zip(*victims, strict=True):
        seconds = []
        for iterations in (WARM_UP, WARM_UP + job["iterations"]):
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
    main(Path(sys.argv[1]))
