"""What rounds of federated averaging consist of, in a folder that others read, and a client's part as plain PyTorch.

job.json    layers ([name, repr] each), lr
data.npz    images (uint8, or float32 in [0, 1]), labels; plan: positions of examples, (rounds, clients, steps, B)
start.npz   the parameters to start from; the scripts leave theirs in end.npz, and seconds.json: those of each round
"""

import ast
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Job:
    """The work of all rounds, as the files hold it; images are float32, N×C×H×W in [0, 1]."""

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
    """The layer of torch.nn with this `repr`, which must be a call with literals; nothing else is run."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call), text
    assert isinstance(call.func, ast.Name), text
    named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    layer: nn.Module = getattr(nn, call.func.id)(*map(ast.literal_eval, call.args), **named)
    return layer


def write(folder: str, start: nn.Module, lr: float, images: Tensor, labels: Tensor, plan: Tensor) -> None:
    """Writes the job of training this network."""
    layers = [(name, repr(layer)) for name, layer in start.named_children()]
    Path(folder, "job.json").write_text(json.dumps({"layers": layers, "lr": lr}))
    save(folder, "data", {"images": images, "labels": labels, "plan": plan})
    save(folder, "start", start.state_dict())


@cache
def read(folder: str) -> Job:
    """The job in a folder, once a process."""
    described, data = json.loads(Path(folder, "job.json").read_text()), load(folder, "data")
    layers = [(name, text) for name, text in described["layers"]]
    images = data["images"].float() / 255 if data["images"].dtype == torch.uint8 else data["images"]
    return Job(layers, described["lr"], images, data["labels"], data["plan"], load(folder, "start"))


def work(network: nn.Module, job: Job, steps: Tensor) -> float:
    """One client's steps of SGD, as everybody writes them; returns the loss of the last."""
    sgd, loss = torch.optim.SGD(network.parameters(), lr=job.lr), torch.zeros(())
    network.train()
    for where in steps:
        sgd.zero_grad()
        loss = cross_entropy(network(job.images[where]), job.labels[where])
        loss.backward()
        sgd.step()
    return float(loss.detach())


def finish(folder: str, times: list[float], parameters: Mapping[str, Tensor]) -> None:
    """Leaves the trained parameters and the seconds of each round, from when the first began and each ended."""
    save(folder, "end", parameters)
    Path(folder, "seconds.json").write_text(json.dumps(np.diff(times).tolist()))


def save(folder: str, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes NAME.npz."""
    np.savez(Path(folder) / f"{name}.npz", **{key: tensor.numpy() for key, tensor in tensors.items()})  # type: ignore[arg-type]


def load(folder: str, name: str) -> dict[str, Tensor]:
    """The tensors of NAME.npz."""
    with np.load(Path(folder) / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}
