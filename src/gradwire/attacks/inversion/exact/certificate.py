"""What a wire determines of a gradient, by algebra on the scheme's measurement, before anything is searched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gradwire.attacks.inversion.exact.known import PHRASES, Kind, KnownParameter, known, phrase
from gradwire.attacks.inversion.exact.layers import TracedLayers
from gradwire.attacks.inversion.exact.matrices import as_sent
from gradwire.attacks.inversion.labels import inferable
from gradwire.attacks.inversion.problem import Problem, pose
from gradwire.schemes import observation
from gradwire.schemes.measurement import Cells, Signs, Support, Term
from gradwire.tasks import CrossEntropy

Labels = Literal["known", "proved", "estimated", "not inferred"]


@dataclass(frozen=True)
class Certificate:
    """What a victim's messages determine.

    Attributes:
        parameters: by name, in the model's order.
        examples: whose mean gradient it is.
        clients: over which it is a mean.
        deviation: the standard deviation of the noise in each number.
        labels: "proved" where what was sent leaves no other; "estimated" where they are the likeliest.
        beside: why what was sent is not of the one gradient of this batch, in words.
    """

    parameters: Mapping[str, KnownParameter]
    examples: int
    clients: int
    deviation: float
    labels: Labels
    beside: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether the numbers are those of one batch's gradient, to rounding."""
        return not self.deviation and not self.beside

    @property
    def whole(self) -> bool:
        """Whether all of the gradient is determined."""
        return self.clean and all(each.kind == "all" for each in self.parameters.values())

    @property
    def sentence(self) -> str:
        """The report's words."""
        parts = [text for kind in PHRASES if (text := phrase(kind, self._of(kind)))]
        noise = f", each with noise of standard deviation {self.deviation:.3g}" if self.deviation else ""
        beside = f". It is {' and '.join(self.beside)}" if self.beside else ""
        labels = f"Labels are {PROOFS[self.labels]}."
        return f"{self._whose} What was sent determines {'; '.join(parts)}{noise}{beside}. {labels}"

    @property
    def _whose(self) -> str:
        examples = "1 example" if self.examples == 1 else f"{self.examples} examples"
        if self.clients > 1:
            return f"Of the mean over {self.clients} clients, with {examples} in all, and of no client alone."
        return f"Of the gradient of {examples}."

    def _of(self, kind: Kind) -> list[KnownParameter]:
        return [each for each in self.parameters.values() if each.kind == kind]


PROOFS: Mapping[Labels, str] = {
    "known": "assumed to be known",
    "proved": "proved by the signs of the last bias",
    "estimated": "estimated, not proved",
    "not inferred": "not inferred",
}


def certify(problem: Problem, layers: TracedLayers | None = None) -> Certificate:
    """What a view determines to one who knows the scheme, also where the problem is that of a naive adversary.

    Args:
        layers: of the view's network, where they were traced before.
    """
    if problem.knowledge == "naive":
        problem = pose(problem.view, "adaptive", problem.salt)
    view = problem.view
    traced, beside = TracedLayers.of(view) if layers is None else layers, _beside(problem)
    clean = not problem.deviation and not beside
    # Noise, residuals and several steps give a sum of more outer products than the layer received vectors.
    vectors = traced.vectors if clean else {}
    parameters = {
        name: known(problem.measurement.get(name, ()), tuple(p.shape), vectors.get(name))
        for name, p in view.model.named_parameters()
        if p.requires_grad
    }
    bias = traced.head[1] if traced.head is not None and clean and len(problem.clients) == 1 else None
    labels = _labels(problem, bias)
    return Certificate(parameters, view.shape[0], len(problem.clients), problem.deviation, labels, beside)


def _labels(problem: Problem, bias: str | None) -> Labels:
    """How labels are known. `bias` is that of the logits, where what was sent of it is of one client's gradient.

    Of one image, softmax − onehot is negative at its label alone (Zhao et al., "iDLG", 2020, eq. 3), and so is, under
    binary cross-entropy, sigmoid − y at the labels that are 1.
    """
    view = problem.view
    if view.targets is not None:
        return "known"
    if not inferable(view):
        return "not inferred"
    if bias is None or view.shape[0] > 1:
        return "estimated"
    signs = [_signs(term) for term in problem.measurement.get(bias, ())]
    negative, positive = (sum(each) for each in zip((0, 0), *signs, strict=True))
    if view.task.loss.name == CrossEntropy.name:
        return "proved" if negative == 1 else "estimated"
    return "proved" if negative + positive == view.model.get_parameter(bias).numel() else "estimated"


def _signs(term: Term) -> tuple[int, int]:
    """How many entries of a bias are negative, and positive, for certain."""
    if isinstance(term, Cells):
        return int((term.observed < -term.width).sum()), int((term.observed > term.width).sum())
    if as_sent(term) or isinstance(term, Support | Signs):
        return int((term.observed < 0).sum()), int((term.observed > 0).sum())
    return 0, 0


def _beside(problem: Problem) -> tuple[str, ...]:
    """Why the numbers are not those of one gradient of the batch."""
    view, found = problem.view, []
    scheme, _ = observation(view)
    if view.work is not None and view.work.steps > 1:
        found.append(f"the update of {view.work.steps} local steps, not one gradient")
    if view.work is not None and view.work.weight_decay:
        found.append("a gradient with weight decay")
    if view.round > 0 and (scheme.feeds_back or scheme.local_momentum):
        found.append("a sum with what earlier rounds left over")
    if scheme.step_hook is not None:
        found.append(f"what {scheme.name} makes of each step")
    return tuple(found)
