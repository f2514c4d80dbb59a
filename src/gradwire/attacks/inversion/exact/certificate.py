"""What a wire determines of a gradient, by algebra on the scheme's measurement, before anything is searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gradwire.attacks.inversion.exact.known import PHRASES, Kind, KnownParameter, known, phrase
from gradwire.attacks.inversion.exact.layers import TracedLayers
from gradwire.attacks.inversion.problem import Problem, pose
from gradwire.schemes import observation

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
    "proved": "proved by what was sent",
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
    return Certificate(parameters, view.shape[0], len(problem.clients), problem.deviation, _labels(problem), beside)


def certificates(problems: Sequence[Problem], told: dict[str, str]) -> list[str]:
    """A line for the report on each scheme: what it lets a wire determine. `told` keeps the lines by scheme."""
    for problem in problems:
        if (scheme := problem.view.scheme) not in told:
            told[scheme] = f"{scheme}: {certify(problem).sentence}"
    return list(dict.fromkeys(told[problem.view.scheme] for problem in problems))


def _labels(problem: Problem) -> Labels:
    """How labels are known."""
    if problem.view.targets is not None:
        return "known"
    if problem.inferred is None or problem.inferred.reason:
        return "not inferred"
    return "proved" if problem.inferred.exact else "estimated"


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
    elif scheme.protects:
        found.append(f"what {scheme.name} makes of a whole update, which it clips")
    return tuple(found)
