"""What a scheme does to one gradient, or to the mean of several: its error beside the least that a code of its kind can
have, layer by layer, and its bytes.

"Trustworthiness of Stochastic Gradient Descent in Distributed Learning", section III. Eq. 5 calls the error of the
truncated SVD an upper bound of PowerSGD's of the same rank; it is the least error of that rank (Eckart and Young 1936),
a lower bound. Eq. 6: Top-K's error is the norm of the dropped entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradwire import data
from gradwire.runs import Row
from gradwire.schemes import Layout, Scheme, adapted, observation, parse, spec_of
from gradwire.schemes.powersgd import PowerSGD
from gradwire.training import capture
from gradwire.wire import View
from gradwire.wire.view import Mode

THEORY = (
    *("data", "model", "scheme", "seed", "clients", "victim", "layer", "entries", "bytes_up", "bytes_down"),
    *("ratio", "down", "forwarded", "error", "tail", "excess", "cosine", "floor"),
)
WHOLE = "all"


@dataclass(frozen=True)
class TheorySettings:
    """What decides the table.

    Attributes:
        samples: victims, the first examples of the `split`, one each.
        clients: of each round, the victim among them, each with an example of its own.
        local_steps: clients send what so many steps of size `lr` change (0: they send a gradient).
        whole: leave out the layers, and give one row a victim, of its whole gradient.
    """

    data: str = "digits"
    model: str = "lenet"
    scheme: str = "none"
    mode: Mode = "eval"
    split: str = "test"
    samples: int = 3
    clients: int = 1
    local_steps: int = 0
    lr: float = 0.05
    whole: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", spec_of(self.scheme))


def theory(settings: TheorySettings) -> Iterator[Row]:
    """Errors relative to the norm of the true gradient: of what was decoded, and the least of that rank or that K.

    Where a server sees a sum only, the true gradient is the clients' mean. `excess` is error − tail, `floor` is
    1 − cosine: the least objective that the truth itself leaves a naive attack. `ratio` and `down` have the bytes of
    the plain parameters over those sent, and those received over them; `forwarded`, those received over those sent.
    """
    dataset, scheme = data.load(settings.data, settings.split), parse(settings.scheme)
    model = dataset.network(settings.model, settings.seed)
    trained, dense = adapted(scheme, model, settings.seed), 4 * Layout.of_model(model).size
    work = {"local_steps": settings.local_steps, "lr": settings.lr} if settings.local_steps else {}
    how: dict[str, Any] = {"mode": settings.mode, "seed": settings.seed, "freeze": False, **work}
    for victim in range(settings.samples):
        batches = [dataset.batch([victim + party * settings.samples]) for party in range(settings.clients)]
        view = capture(model, *batches[0], scheme, fellows=batches[1:], **how)
        known = batches if scheme.sums_only else batches[:1]
        plain = [_decoded(capture(trained, *batch, "none", **how)) for batch in known]
        true = {name: torch.stack([each[name] for each in plain]).mean(0) for name in plain[0]}
        sent = _decoded(view)
        tails = {name: _tail(scheme, true[name], sent[name]) for name in true}
        about = {name: getattr(settings, name) for name in ("data", "model", "scheme", "seed", "clients")}
        about |= {"victim": victim, "bytes_up": view.bytes_up, "bytes_down": view.bytes_down}
        about |= {"ratio": dense / view.bytes_up, "down": view.bytes_down / dense}
        about["forwarded"] = view.bytes_down / view.bytes_up
        parts = {WHOLE: list(true)} if settings.whole else {name: [name] for name in true}
        for layer, names in parts.items():
            yield about | {"layer": layer} | _row([(true[n], sent[n], tails[n]) for n in names])


def _decoded(view: View) -> dict[str, Tensor]:
    scheme, seen = observation(view)
    return {name: part.double() for name, part in scheme.decode(seen).items()}


def _row(parts: list[tuple[Tensor, Tensor, float]]) -> dict[str, float]:
    true, sent = torch.cat([part[0].flatten() for part in parts]), torch.cat([part[1].flatten() for part in parts])
    norm = float(true.norm())
    error, tail = float((true - sent).norm()) / norm, sum(part[2] for part in parts) ** 0.5 / norm
    cosine = float(true @ sent) / (norm * float(sent.norm())) if sent.norm() > 0 else 0.0
    found = {"error": error, "tail": tail, "excess": error - tail, "cosine": cosine, "floor": 1 - cosine}
    return {"entries": true.numel(), **found}


def _tail(scheme: Scheme, true: Tensor, sent: Tensor) -> float:
    """The least squared error that a tensor of the rank of what was sent, or with as many entries, can have."""
    if isinstance(scheme, PowerSGD):
        matrix = true.reshape(true.shape[0], -1) if true.ndim > 1 else None
        if matrix is None or torch.equal(true.float(), sent.float()):
            return 0.0
        return float(torch.linalg.svdvals(matrix)[scheme.rank :].square().sum())
    kept = int((sent != 0).sum())
    return float(true.flatten().square().sort(descending=True).values[kept:].sum())
