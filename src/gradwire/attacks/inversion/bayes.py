"""The Bayes-optimal adversary: the likeliest images, given what was sent and a prior of images.

M. Balunović, D. I. Dimitrov, R. Staab, M. Vechev, "Bayesian framework for gradient leakage", ICLR 2022, eq. 6: maximise
log p(g | x) + log p(x). The defence decides what p(g | x) is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire import metrics
from gradwire.attacks.inversion.match import Match, total_variation
from gradwire.attacks.inversion.patches import PatchPrior
from gradwire.attacks.inversion.problem import Problem, PublicExamples
from gradwire.attacks.inversion.rehearsal import imitable, rehearse
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError, positive, unknown
from gradwire.progress import Progress
from gradwire.tasks import Domain

SCALES: Mapping[str, float] = {"tv": 0.1, "patch": 1.0}
"""Each prior's default scale: of the differences of neighbouring pixels; of the mixture as it was fitted."""
TRIED = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""The scales that are tried in rehearsals, in units of the default one."""
REHEARSALS = 4


@dataclass(frozen=True)
class Bayes(Search):
    """Minimise −log p(sent | x) + prior(x)/scale over images x in [0, 1].

    The likelihood is Gaussian around the scheme's measurement A; of signs and quantisation cells it is the probability
    that a Gaussian takes the gradient there. σ is the noise that the scheme adds; where it adds none, a small one
    represents what the model of the victim omits, such as rounding.

    Attributes:
        prior: "tv", a Laplace distribution of the differences between neighbouring pixels, which is total variation;
            or "patch", a mixture of Gaussians over patches, fitted to the adversary's own images.
        scale: of the prior. Neighbouring pixels of real images differ by 0.05 to 0.3; where much is lost, a narrow
            prior may make a flat image the likeliest. None: the best on rounds with the adversary's own images;
            `SCALES` without any, and under a scheme with a local-step hook.
        slack: the least σ, in units of the root mean square of what was sent.
    """

    name: ClassVar[str] = "bayes"

    signed: bool = False
    decay: Literal["steps", "cosine"] = "cosine"
    prior: Literal["tv", "patch"] = "tv"
    scale: float | None = None
    slack: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior not in SCALES:
            raise unknown("prior", self.prior, SCALES)
        positive(self.name, self, "scale", "slack")

    def suits(self, domain: Domain) -> None:
        """Refuse what is no picture: both priors are of pictures."""
        super().suits(domain)
        self.needs_pictures(domain, f"prior={self.prior}", "try tableak, or iga:tv=0")

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """−log p(g | x) − log p(x), without constants."""
        return match.stack.surprise(match.gradients(images), self.variance(match)) + self.surprise(match, images)

    def surprise(self, match: Match, images: Tensor) -> Tensor:
        """−log p(x), shape (V,)."""
        energy = self.energy(images)
        return energy / torch.full_like(energy, self.scale or SCALES[self.prior])

    def energy(self, images: Tensor) -> Tensor:
        """−log p(x) before it is divided by the scale, shape (V,): total variation."""
        # Down and across alike: as many differences as there are pixels, but for the last row and column.
        return images[0].numel() * total_variation(images)

    def variance(self, match: Match) -> Tensor:
        """σ² of each row's measurement, shape (V,)."""
        stated = match.numbers(tuple(problem.deviation for problem in match.problems))
        least = self.slack**2 * match.stack.energy / match.stack.counts()
        return torch.maximum(stated.square(), least).clamp_min(torch.finfo(least.dtype).tiny)

    def prepared(self, problems: Sequence[Problem], seed: int, device: str, progress: Progress) -> "Bayes":
        """With a prior that is fitted to the adversary's own images, and a scale that was rehearsed on them."""
        own = problems[0].public_examples
        if own is None:
            if self.prior == "patch":
                raise GradwireError("bayes: a patch prior is fitted to images of the adversary's own; there are none")
            return self
        patches = PatchPrior.fit(own.inputs, own.source, seed=seed).to(device) if self.prior == "patch" else None
        ready = PreparedBayes(**vars(self), source=own.source, patches=patches)
        return ready if self.scale else replace(ready, scales=ready.rehearsed(problems, own, seed, device, progress))

    def notes(self, match: Match) -> tuple[str, ...]:
        """The prior."""
        return (*super().notes(match), "bayes has a prior of total variation")


@dataclass(frozen=True)
class PreparedBayes(Bayes):
    """Bayes with a prior and scales that come from the adversary's own images.

    Attributes:
        source: of these images.
        scales: one a problem, instead of `scale`.
        patches: the prior that was fitted to them, instead of total variation.
    """

    source: str = ""
    scales: tuple[float, ...] = ()
    patches: PatchPrior | None = field(default=None, repr=False)

    def prepared(self, problems: Sequence[Problem], seed: int, device: str, progress: Progress) -> "Bayes":
        """As it is, on the device."""
        return self if self.patches is None else replace(self, patches=self.patches.to(device))

    def surprise(self, match: Match, images: Tensor) -> Tensor:
        """−log p(x), by each problem's own scale."""
        if not self.scales:
            return super().surprise(match, images)
        return self.energy(images) / match.numbers(tuple(s for s in self.scales for _ in range(self.restarts)))

    def energy(self, images: Tensor) -> Tensor:
        """−log p(x) before it is divided by the scale: of patches, where a prior was fitted to some."""
        return super().energy(images) if self.patches is None else self.patches.energy(images)

    def rehearsed(
        self, problems: Sequence[Problem], own: PublicExamples, seed: int, device: str, progress: Progress
    ) -> tuple[float, ...]:
        """Each problem's scale: the best one for its scheme and knowledge, on the adversary's own images."""
        # The first problem of each scheme and knowledge is enough.
        cases = {(p.view.scheme, p.knowledge): p for p in reversed(problems) if imitable(p)}
        chosen: dict[tuple[str, str], float] = {}
        for key, problem in cases.items():

            def report(_: str, done: int, of: int) -> None:
                progress("rehearsing", len(chosen) * of + done, len(cases) * of)

            chosen[key] = self.best_scale(problem, own, seed, device, report)
        return tuple(chosen.get((p.view.scheme, p.knowledge), SCALES[self.prior]) for p in problems)

    def best_scale(self, problem: Problem, own: PublicExamples, seed: int, device: str, progress: Progress) -> float:
        """The scale of highest mean SSIM on the adversary's own images under the problem's scheme."""
        posed, truth = rehearse(problem, own, REHEARSALS, device)
        tried = [factor * SCALES[self.prior] for factor in TRIED]
        scales = tuple(scale for scale in tried for _ in posed)
        found = replace(self, scales=scales).run(posed * len(tried), seed, device, progress).inputs
        truths = truth.repeat(len(tried), 1, 1, 1, 1)
        scores = metrics.ssim(metrics.match(found, truths), truths).view(len(tried), -1)
        return tried[int(torch.nan_to_num(scores, nan=-1.0).mean(1).argmax())]

    def notes(self, match: Match) -> tuple[str, ...]:
        """The prior and its scales."""
        prior = "total variation" if self.patches is None else f"patches of {self.source}"
        firsts = match.problems[:: self.restarts]
        found = {p.view.scheme: s for p, s in zip(firsts, self.scales, strict=False) if imitable(p)}
        chosen = ""
        if found:
            scales = ", ".join(f"{scale:g} under {scheme}" for scheme, scale in found.items())
            chosen = f", its scale rehearsed on images of {self.source}: {scales}"
        return (*super().notes(match)[:-1], f"bayes has a prior of {prior}{chosen}")
