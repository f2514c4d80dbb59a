"""Wire statistics: products of candidates' gradients G with what each client sent in each round.

Attacks need three numbers, by which inversion also fits a measurement (`schemes.measurement`): ⟨A(G), y⟩, ‖A(G)‖² and
‖y‖². For the naive adversary, y is the decoded update and A(G) = G; the adaptive one measures G as the scheme would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.engine import arithmetic, engine
from gradwire.errors import GradwireError, unknown
from gradwire.schemes import Layout, Measurement, dense, observation
from gradwire.schemes.gradients import Full, Gradient
from gradwire.wire import View
from gradwire.wire.view import Mode

KNOWLEDGE = ("naive", "adaptive")
BLOCK = 2**22
"""Numbers in the candidates' gradients that are held at once."""


@dataclass(frozen=True)
class WireStatistics:
    """The statistics of n candidates against the messages of C clients in T rounds; float64.

    Attributes:
        inner: ⟨A(G), y⟩, shape (T, C, n).
        square: ‖A(G)‖², shape (T, C, n).
        energy: ‖y‖², shape (T, C).
    """

    inner: Tensor
    square: Tensor
    energy: Tensor

    def __post_init__(self) -> None:
        if self.inner.ndim != 3 or self.inner.shape != self.square.shape or self.energy.shape != self.inner.shape[:2]:
            shapes = ", ".join(str(tuple(t.shape)) for t in vars(self).values())
            raise GradwireError(f"wire statistics have shapes {shapes}; they must be (T, C, n), (T, C, n) and (T, C)")

    @classmethod
    def join(cls, rounds: Sequence["WireStatistics"]) -> "WireStatistics":
        """The statistics of several rounds as one."""
        shapes = {tuple(each.inner.shape[1:]) for each in rounds}
        if len(shapes) != 1:
            raise GradwireError(f"rounds have shapes {sorted(shapes)}; all must be one (clients, candidates)")
        return cls(*(torch.cat(column) for column in zip(*(vars(each).values() for each in rounds), strict=True)))


def observe(
    views: Sequence[View],
    inputs: Tensor,
    targets: Tensor,
    knows: Sequence[str] = KNOWLEDGE,
    mode: Mode = "eval",
    chunk: int = 0,
    device: str = "cpu",
) -> dict[str, WireStatistics]:
    """The statistics of one round, T = 1, for each kind of knowledge.

    Args:
        views: of one round, one a client, with the same model. With a scheme that masks, each holds the sum.
        inputs: candidates, shape (n, *view.shape[1:]), and `targets`: one each, shape (n, …).
        mode: of the model for candidates' gradients. In evaluation mode they do not depend on the rest of the batch,
            which the adversary does not know.
        chunk: candidates whose gradients are held at once; 0: as many as fit `BLOCK`.
    """
    for knowledge in knows:
        if knowledge not in KNOWLEDGE:
            raise unknown("knowledge", knowledge, KNOWLEDGE)
    if not views or any(view.model is not views[0].model and not view.shares_model(views[0]) for view in views):
        raise GradwireError(f"{len(views)} views do not share one model; observe the clients of one round together")
    if targets.shape[:1] != inputs.shape[:1]:
        shape = tuple(targets.shape)
        raise GradwireError(f"there are {len(inputs)} candidates and targets of shape {shape}; each needs one")
    measured = {knowledge: [_measurement(view, knowledge, device) for view in views] for knowledge in knows}
    model = views[0].model
    gradients = engine(model, mode, views[0].task, 1, device).gradients
    parts: dict[str, list[Tensor]] = {knowledge: [] for knowledge in knows}
    size = chunk or max(1, BLOCK // Layout.of_model(model).size)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        lazy = gradients(x[:, None].to(device), y[:, None].to(device))
        # They are formed once because every client's messages need them.
        formed = {name: Full(gradient.full().detach()) for name, gradient in lazy.items()}
        for knowledge, clients in measured.items():
            parts[knowledge].append(torch.stack([_moments(client, formed) for client in clients], 1).cpu())
    found = {}
    for knowledge, clients in measured.items():
        inner, square = torch.cat(parts[knowledge], 2)
        observed = [[term.observed.double() for terms in client.values() for term in terms] for client in clients]
        energy = torch.stack([torch.stack([y.square().sum() for y in own]).sum() for own in observed]).cpu()
        found[knowledge] = WireStatistics(inner[None], square[None], energy[None])
    return found


def _measurement(view: View, knowledge: str, device: str) -> Measurement:
    scheme, seen = observation(view)
    terms = scheme.measure(seen) if knowledge == "adaptive" else dense(scheme.decode(seen))
    return {name: [term.to(device, arithmetic(view.model)) for term in several] for name, several in terms.items()}


def _moments(measurement: Measurement, gradients: Mapping[str, Gradient]) -> Tensor:
    """⟨A(G), y⟩ and ‖A(G)‖² of V candidates over all terms, shape (2, V)."""
    pairs = [(term, gradients[name]) for name, terms in measurement.items() for term in terms]
    return torch.stack([torch.stack(term.repeat(len(g)).moments(g)).double() for term, g in pairs]).sum(0)
