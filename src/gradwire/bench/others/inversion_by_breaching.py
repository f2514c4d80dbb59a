"""The attack of breaching on the bench's images: python inversion_by_breaching.py FOLDER.

FOLDER holds job.json and job.npz, which `gradwire.bench.breaching` wrote; found.npz is written there.
Only the models of gradwire are loaded, and only the attack of breaching: each package's own `__init__` would load all
the rest, torchvision among it, which takes no part in what is timed.
"""

import json
import sys
import time
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import job
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


def attacker(kinds: Any, config: Any, model: torch.nn.Module, iterations: int, settings: dict[str, Any]) -> Any:
    """The attack with the bench's step size and weights, and plain signed steps."""
    config = config.copy()
    config.optim.update(optimizer="gd", step_size=settings["step"], step_size_decay=None, max_iterations=iterations)
    config.regularization.total_variation.scale = settings["tv"]
    setup = {"device": torch.device(settings["device"]), "dtype": torch.float}
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


def main(folder: str) -> None:
    """Attacks one image after another."""
    settings, tensors = json.loads(Path(folder, "job.json").read_text()), job.load(folder, "job")
    torch.set_num_threads(settings["threads"])
    kinds, config = load()
    bare("gradwire", Path(settings["models"]).parent)
    about = (settings[name] for name in ("model", "shape", "classes", "mean", "std"))
    model = import_module("gradwire.models").build(*about, seed=0)
    model.load_state_dict({name: tensors[f"model/{name}"] for name in model.state_dict()})
    model.to(settings["device"]).eval()
    victims = (tensors[name].to(settings["device"]) for name in ("images", "labels", "starts"))
    found, times = [], []
    for image, label, start in zip(*victims, strict=True):
        seconds = []
        for iterations in (WARM_UP, WARM_UP + settings["iterations"]):
            of = attacker(kinds, config, model, iterations, settings)
            started = time.perf_counter()
            reached = attack(model, image[None], label[None], start, of)
            seconds.append(time.perf_counter() - started)
        found.append(reached.detach().cpu())
        times.append(1000 * (seconds[1] - seconds[0]) / settings["iterations"])
    milliseconds = torch.tensor(sorted(times)[len(times) // 2], dtype=torch.float64)
    job.save(folder, "found", {"images": torch.stack(found), "milliseconds": milliseconds})


if __name__ == "__main__":
    main(sys.argv[1])
