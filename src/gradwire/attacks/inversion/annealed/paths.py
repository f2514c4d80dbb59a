"""Paths that a search can take: total variation that falls from stage to stage, each stage begun at the last one's end.

A strong prior first finds the coarse of an image, where the distance of gradients alone has many valleys; a weak one
then fills in what was sent. No paper's algorithm: graduated optimisation (A. Blake, A. Zisserman, "Visual
reconstruction", 1987, chapter 7) of the objective of Geiping et al. 2020, eq. 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.search import Search
from gradwire.schemes.measurement import Term
from gradwire.tasks import Domain

SHARES = (1 / 6, 1 / 4, 1 / 4, 1 / 3)
"""Of the iterations, a stage each."""


@dataclass(frozen=True)
class Likelihood(IGA):
    """Minimise 2σ²·(−log p(sent | x)) / n + tv·TV(x), n numbers sent.

    For signs and quantisation cells: p is the probability that a Gaussian around the candidate's gradient falls where
    it was seen. Scaled so, a plain value's term is its squared error relative to the mean square of what was sent.

    Attributes:
        sigma: σ, in units of the root mean square of what was sent.
    """

    sigma: float = 0.1

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """What is minimised, shape (V,)."""
        stack = match.stack
        square = (stack.energy / stack.counts()).clamp_min(torch.finfo(stack.energy.dtype).tiny)
        surprise = stack.surprise(match.gradients(images), self.sigma**2 * square)
        return 2 * self.sigma**2 * surprise / stack.counts() + self.priors(match, images)


@dataclass(frozen=True)
class Path(Search):
    """One way down: an optimiser, and the weight of total variation in each stage.

    Attributes:
        called: its name among `PATHS`.
        weights: of total variation, one a stage of `SHARES`.
        sigma: that of `Likelihood`, which takes the cosine's place in the later half of the stages; 0: it does not.
        bn: as of `IGA`.
    """

    name: ClassVar[str] = "annealed"

    called: str = "falling"
    weights: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    sigma: float = 0.0
    bn: float = 0.0

    def value(self, match: Match, inputs: Tensor, *extras: Tensor) -> Tensor:
        """That of the last stage."""
        return self.stages()[-1].value(match, inputs, *extras)

    def suits(self, domain: Domain) -> None:
        """Refuse what is no picture."""
        super().suits(domain)
        self.needs_pictures(domain, "falling total variation", "try tableak, or iga:tv=0")

    def stages(self) -> Sequence[Search]:
        """A search for each weight."""
        ends = [0, *(round(self.iterations * sum(SHARES[: n + 1])) for n in range(len(SHARES)))]
        common = {each.name: getattr(self, each.name) for each in fields(IGA) if each.name in vars(self)}
        searches: list[Search] = []
        for n, weight in enumerate(self.weights):
            here = IGA(**common | {"tv": weight, "iterations": ends[n + 1] - ends[n]})
            late = n >= len(self.weights) // 2
            searches.append(Likelihood(**vars(here), sigma=self.sigma) if self.sigma and late else here)
        return searches


PATHS: Mapping[str, Path] = {
    path.called: path
    for path in (
        Path(called="falling", optimizer="lbfgs"),
        Path(called="lower", optimizer="lbfgs", weights=(0.1, 0.03, 0.01, 0.003)),
        Path(called="low", optimizer="lbfgs", weights=(0.03, 0.01, 0.003, 0.001)),
        Path(called="adam", signed=False, decay="cosine", weights=(0.1, 0.03, 0.01, 0.003)),
        Path(called="signed", weights=(1e-4, 1e-4, 1e-4, 1e-4)),
        Path(called="cells", optimizer="lbfgs", weights=(1.0, 0.3, 0.03, 0.01), sigma=0.3),
        Path(called="signs", optimizer="lbfgs", weights=(1.0, 0.3, 0.003, 0.001), sigma=0.01),
    )
}
"""Those to choose among, by name; the last two, for signs and quantisation cells alone, end in their likelihood."""


def path_of(name: str, iterations: int, bn: float = 0.0) -> Path:
    """A path by its name."""
    return replace(PATHS[name], iterations=iterations, bn=bn)


def suited(problem: Problem, iterations: int, bn: float = 0.0) -> tuple[Path, ...]:
    """The paths that suit what was sent, the usual one first."""
    terms = [term for each in problem.measurement.values() for term in each]
    coarse = any(type(term).violation is not Term.violation for term in terms)
    return tuple(path_of(name, iterations, bn) for name, path in PATHS.items() if coarse or not path.sigma)
