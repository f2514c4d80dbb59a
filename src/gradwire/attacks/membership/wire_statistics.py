"""What candidates have in common with what was sent, round by round and client by client.

An adversary on the wire takes each candidate's own gradient G at the round's model and holds it against the message.
Everything that the attacks need of the two are three numbers, those that inversion fits a measurement by (see
`schemes.measurement`): ⟨A(G), y⟩, ‖A(G)‖² and ‖y‖². The naive adversary takes the decoded update for y and A(G) = G;
the adaptive one knows the scheme, and measures G as the scheme would have: the kept entries, the sketches, the sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.engine import arithmetic, engine
from gradwire.errors import GradwireError, unknown
from gradwire.schemes import Layout, Measurement, dense, observation
from gradwire.schemes.gradients import Full, Gradient
from gradwire.schemes.measurement import Term
from gradwire.wire import View
from gradwire.wire.view import Mode

KNOWLEDGE = ("naive", "adaptive")
BLOCK = 2**22
"""Numbers in the gradients that are held at once."""


@dataclass(frozen=True)
class WireStatistics:
    """The three numbers of n candidates, in T rounds, against the messages of C clients; float64.

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
            raise GradwireError(f"traces have shapes {shapes}; they must be (T, C, n), (T, C, n) and (T, C)")

    @classmethod
    def join(cls, rounds: Sequence["WireStatistics"]) -> "WireStatistics":
        """The traces of several rounds as one.

        Raises:
            GradwireError: there is none, or they are not of the same clients and candidates.
        """
        shapes = {tuple(each.inner.shape[1:]) for each in rounds}
        if len(shapes) != 1:
            raise GradwireError(f"rounds have traces of shapes {sorted(shapes)}; all must be one (clients, candidates)")
        return cls(*(torch.cat(column) for column in zip(*(vars(each).values() for each in rounds), strict=True)))


def observe(
    views: Sequence[View],
    images: Tensor,
    labels: Tensor,
    knows: Sequence[str] = KNOWLEDGE,
    mode: Mode = "eval",
    chunk: int = 0,
    device: str = "cpu",
) -> dict[str, WireStatistics]:
    """The traces of one round, T = 1, for each kind of knowledge: candidates' gradients are taken once for all.

    Args:
        views: of one round, one a client, with the same model. With a scheme that masks, each holds the sum.
        images: candidates, shape (n, C, H, W), in [0, 1].
        labels: int64, shape (n,).
        knows: kinds of knowledge, of "naive" and "adaptive".
        mode: how candidates' gradients are taken. In evaluation mode, a candidate's gradient does not depend on the
            batch that it was in, which the adversary does not know.
        chunk: candidates whose gradients are held at once; 0: as many as make up a moderate `BLOCK`.

    Raises:
        GradwireError: no views, views of several models, candidates without labels, unknown knowledge.
    """
    for knowledge in knows:
        if knowledge not in KNOWLEDGE:
            raise unknown("knowledge", knowledge, KNOWLEDGE)
    if not views or any(view.model is not views[0].model and not view.shares_model(views[0]) for view in views):
        raise GradwireError(f"{len(views)} views do not share one model; observe the clients of one round together")
    if labels.shape != images.shape[:1]:
        raise GradwireError(
            f"there are {len(images)} candidates and labels of shape {tuple(labels.shape)}; each needs one"
        )
    measurements = {knowledge: [_measurement(view, knowledge, device) for view in views] for knowledge in knows}
    first = views[0]
    gradients = engine(first.model, mode, first.loss, (1, *images.shape[1:]), device).gradients
    parts: dict[str, list[Tensor]] = {knowledge: [] for knowledge in knows}
    size = chunk or max(1, BLOCK // Layout.of_model(first.model).size)
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        found = _formed(gradients(x[:, None].to(device), y[:, None].to(device)))
        for knowledge, several in measurements.items():
            parts[knowledge].append(torch.stack([_moments(measurement, found) for measurement in several], 1).cpu())
    return {knowledge: _traces(parts[knowledge], several) for knowledge, several in measurements.items()}


def _traces(parts: Sequence[Tensor], measurements: Sequence[Measurement]) -> WireStatistics:
    """Those of one round, from ⟨A(G), y⟩ and ‖A(G)‖² of all candidates, shapes (2, C, n) in parts along n."""
    inner, square = torch.cat(list(parts), 2)
    energy = torch.stack([_energy(measurement) for measurement in measurements]).cpu()
    return WireStatistics(inner[None], square[None], energy[None])


def _formed(gradients: Mapping[str, Gradient]) -> dict[str, Gradient]:
    """Gradients as they are: every client's messages are held against the same ones, which pays for forming them."""
    return {name: Full(gradient.full().detach()) for name, gradient in gradients.items()}


def _measurement(view: View, knowledge: str, device: str) -> Measurement:
    scheme, seen = observation(view)
    terms = scheme.measure(seen) if knowledge == "adaptive" else dense(scheme.decode(seen))
    return {name: [term.to(device, arithmetic(view.model)) for term in several] for name, several in terms.items()}


def _moments(measurement: Measurement, gradients: dict[str, Gradient]) -> Tensor:
    """⟨A(G), y⟩ and ‖A(G)‖² of V candidates over all terms, shape (2, V)."""
    found = [
        torch.stack(term.repeat(len(gradients[name])).moments(gradients[name])).double()
        for name, terms in measurement.items()
        for term in terms
    ]
    return torch.stack(found).sum(0)


def _energy(measurement: Measurement) -> Tensor:
    terms: list[Term] = [term for several in measurement.values() for term in several]
    return torch.stack([term.observed.double().square().sum() for term in terms]).sum()
