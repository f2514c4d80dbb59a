"""What a round consists of, and one client's part of it as plain PyTorch: read from a folder that the benchmark wrote.

job.json    layers ([name, repr] each), lr
data.npz    images (uint8, or float32 in [0, 1]), labels; plan: positions of examples, (rounds, clients, steps, B)
start.npz   the parameters to start from; the scripts leave theirs in end.npz
"""

import ast
import json
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Job:
    """The work of all rounds.

    Attributes:
        layers: name and `repr` of each layer of the network.
        lr: of the clients' SGD.
        images: N×C×H×W in [0, 1], and `labels`.
        plan: int64, (rounds, clients, steps, B).
        start: the parameters.
    """

    layers: list[tuple[str, str]]
    lr: float
    images: Tensor
    labels: Tensor
    plan: Tensor
    start: dict[str, Tensor]

    def network(self) -> nn.Module:
        """The network, with its first parameters."""
        made = nn.Sequential(OrderedDict((name, _layer(text)) for name, text in self.layers))
        made.load_state_dict(self.start)
        return made


def _layer(text: str) -> nn.Module:
    """The layer of torch.nn with this `repr`: a call with literals, and nothing else is run."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call), text
    assert isinstance(call.func, ast.Name), text
    named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    layer: nn.Module = getattr(nn, call.func.id)(*map(ast.literal_eval, call.args), **named)
    return layer


@cache
def read(folder: str) -> Job:
    """The job in a folder, once a process."""
    described = json.loads((Path(folder) / "job.json").read_text())
    with np.load(Path(folder) / "data.npz") as data, np.load(Path(folder) / "start.npz") as start:
        images, labels, plan = (torch.from_numpy(data[name]) for name in ("images", "labels", "plan"))
        parameters = {name: torch.from_numpy(start[name]) for name in start.files}
    layers = [(name, text) for name, text in described["layers"]]
    unit = images.float() / 255 if images.dtype == torch.uint8 else images
    return Job(layers, described["lr"], unit, labels, plan, parameters)


def work(network: nn.Module, job: Job, steps: Tensor) -> float:
    """One client's steps of SGD, as everybody writes them; the loss of the last."""
    sgd, loss = torch.optim.SGD(network.parameters(), lr=job.lr), torch.zeros(())
    network.train()
    for where in steps:
        sgd.zero_grad()
        loss = cross_entropy(network(job.images[where]), job.labels[where])
        loss.backward()
        sgd.step()
    return float(loss.detach())


def finish(folder: str, seconds: list[float], parameters: dict[str, np.ndarray]) -> None:
    """Leave what came of it, and print how long each round took."""
    np.savez(Path(folder) / "end.npz", **parameters)  # type: ignore[arg-type]
    print(json.dumps({"seconds": seconds}))
