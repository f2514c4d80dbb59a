"""What compression does to one gradient: its error beside the least that a code of its kind can have, layer by layer.

"Trustworthiness of Stochastic Gradient Descent in Distributed Learning", section III. Eq. 5 calls the error of the
truncated SVD an upper bound of PowerSGD's of the same rank; it is the least error of that rank (Eckart and Young 1936),
a lower bound. Eq. 6: Top-K's error is the norm of the dropped entries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire import data
from gradwire.runs import Row
from gradwire.schemes import observation, parse, spec_of
from gradwire.schemes.powersgd import PowerSGD
from gradwire.training import capture
from gradwire.wire import View
from gradwire.wire.view import Mode

THEORY = (
    *("data", "model", "scheme", "seed", "victim", "layer", "entries", "bytes_up", "ratio"),
    *("error", "tail", "excess", "cosine", "floor"),
)
WHOLE = "all"


@dataclass(frozen=True)
class TheorySettings:
    """What decides the table.

    Attributes:
        samples: victims, the first examples of the `split`, one each.
        whole: leave out the layers, and give one row a victim, of its whole gradient.
    """

    data: str = "digits"
    model: str = "lenet"
    scheme: str = "none"
    mode: Mode = "eval"
    split: str = "test"
    samples: int = 3
    whole: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", spec_of(self.scheme))


def theory(settings: TheorySettings) -> Iterator[Row]:
    """Errors relative to the norm of the true gradient: of what was decoded, and the least of that rank or that K.

    `excess` is error − tail, `floor` is 1 − cosine: the least objective that the truth itself leaves a naive attack.
    """
    dataset = data.load(settings.data, settings.split)
    model = dataset.network(settings.model, settings.seed)
    for victim in range(settings.samples):
        batch = dataset.batch([victim])
        views = [
            capture(model, *batch, scheme, mode=settings.mode, seed=settings.seed, freeze=False)
            for scheme in ("none", settings.scheme)
        ]
        true, sent = ({name: part.double() for name, part in _decoded(view).items()} for view in views)
        tails = {name: _tail(settings.scheme, true[name], sent[name]) for name in true}
        about = {name: getattr(settings, name) for name in ("data", "model", "scheme", "seed")} | {"victim": victim}
        about |= {"bytes_up": views[1].bytes_up, "ratio": views[0].bytes_up / views[1].bytes_up}
        parts = {WHOLE: list(true)} if settings.whole else {name: [name] for name in true}
        for layer, names in parts.items():
            yield about | {"layer": layer} | _row([(true[n], sent[n], tails[n]) for n in names])


def _decoded(view: View) -> Mapping[str, Tensor]:
    scheme, seen = observation(view)
    return dict(scheme.decode(seen))


def _row(parts: list[tuple[Tensor, Tensor, float]]) -> dict[str, float]:
    true, sent = torch.cat([part[0].flatten() for part in parts]), torch.cat([part[1].flatten() for part in parts])
    norm = float(true.norm())
    error, tail = float((true - sent).norm()) / norm, sum(part[2] for part in parts) ** 0.5 / norm
    cosine = float(true @ sent) / (norm * float(sent.norm())) if sent.norm() > 0 else 0.0
    found = {"error": error, "tail": tail, "excess": error - tail, "cosine": cosine, "floor": 1 - cosine}
    return {"entries": true.numel(), **found}


def _tail(scheme: str, true: Tensor, sent: Tensor) -> float:
    """The least squared error that a tensor of the rank of what was sent, or with as many entries, can have."""
    if isinstance(known := parse(scheme), PowerSGD):
        matrix = true.reshape(true.shape[0], -1) if true.ndim > 1 else None
        if matrix is None or torch.equal(true.float(), sent.float()):
            return 0.0
        return float(torch.linalg.svdvals(matrix)[known.rank :].square().sum())
    kept = int((sent != 0).sum())
    return float(true.flatten().square().sort(descending=True).values[kept:].sum())
