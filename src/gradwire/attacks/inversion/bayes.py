"""The Bayes-optimal adversary: the images that are likeliest, given what was sent and how images look.

M. Balunović, D. I. Dimitrov, R. Staab, M. Vechev, "Bayesian framework for gradient leakage", ICLR 2022, eq. 6: maximise
log p(g | x) + log p(x). What p(g | x) is, the defence decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from gradwire import metrics
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.objective import total_variation
from gradwire.attacks.inversion.patches import PatchPrior
from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.rehearsal import PublicImages, best, distinct, imitable, rehearse
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError, unknown
from gradwire.progress import Progress, silent

SCALES: Mapping[str, float] = {"tv": 0.1, "patch": 1.0}
"""Of each prior, where nobody knows better: differences of neighbouring pixels, and the mixture as it was fitted."""
TRIED = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Times these, the scales that a rehearsal tries, on so many rounds of its own."""
REHEARSALS = 4


@dataclass(frozen=True)
class Bayes(Search):
    """Minimise −log p(sent | x) + prior(x)/scale over images x in [0, 1].

    The likelihood is Gaussian around the measurement A of the scheme: all entries of a noisy gradient, the kept ones
    of a sparse one; of signs and quantisation cells it is the probability that a Gaussian takes the gradient there. σ
    is the noise that the scheme adds; where it adds none, a small one stands for whatever the model of the victim
    leaves out (rounding, for one).

    Attributes:
        prior: "tv", a Laplace distribution of the differences between neighbouring pixels, which is total variation;
            or "patch", a mixture of Gaussians over patches, fitted to the adversary's own images.
        scale: what the prior is divided by; for "tv" that of the distribution. Neighbouring pixels of real images
            differ by 0.05 to 0.3; but where much is lost the likeliest image of a narrow prior may be a flat one. None:
            chosen by attacking the adversary's own images; `SCALES` without any, and under a scheme that has a say in
            how clients train.
        slack: the least σ, in units of the root mean square of what was sent.
        gallery: images of the adversary's, none a victim's.
        scales: one a problem, in place of `scale`.
    """

    name: ClassVar[str] = "bayes"

    signed: bool = False
    decay: Literal["steps", "cosine"] = "cosine"
    prior: Literal["tv", "patch"] = "tv"
    scale: float | None = None
    slack: float = 1e-2
    public_images: PublicImages | None = None
    scales: tuple[float, ...] = ()
    patches: PatchPrior | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior not in SCALES:
            raise unknown("prior", self.prior, SCALES)
        for name in ("scale", "slack"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise GradwireError(f"bayes: {name} is {value}; it must be positive")

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """−log p(g | x) − log p(x), without what does not depend on x."""
        likelihood = match.stack.surprise(match.gradients(images), self.variance(match))
        scales = torch.tensor(self.scales or (self.scale or SCALES[self.prior],) * len(images)).to(likelihood)
        return likelihood + self.energy(images) / scales.repeat_interleave(len(images) // len(scales))

    def energy(self, images: Tensor) -> Tensor:
        """−log p(x) before it is divided by the scale, shape (V,)."""
        if self.patches is not None:
            return self.patches.energy(images)
        # Down and across alike: as many differences as there are pixels, but for the last row and column.
        return images[0].numel() * total_variation(images)

    def variance(self, match: Match) -> Tensor:
        """σ² of each row's measurement, shape (V,)."""
        stated = torch.tensor([problem.deviation for problem in match.problems]).to(match.stack.energy)
        least = self.slack**2 * match.stack.energy / match.stack.counts()
        return torch.maximum(stated.square(), least).clamp_min(torch.finfo(least.dtype).tiny)

    def prepared(self, problems: Sequence[Problem], seed: int, device: str, progress: Progress) -> Self:
        """With a prior that is fitted to the adversary's own images, and a scale that was rehearsed on them.

        Raises:
            GradwireError: a patch prior without images to fit it to, or too few to rehearse with.
        """
        ready = self
        if self.prior == "patch" and self.patches is None:
            if self.public_images is None:
                raise GradwireError("bayes: a patch prior is fitted to images of the adversary's own; there are none")
            ready = replace(
                ready, patches=PatchPrior.fit(self.public_images.images, self.public_images.source, seed=seed)
            )
        if self.public_images is not None and self.scale is None and not self.scales:
            ready = replace(ready, scales=ready.rehearsed(problems, seed, device, progress))
        return ready

    def rehearsed(
        self, problems: Sequence[Problem], seed: int, device: str, progress: Progress = silent
    ) -> tuple[float, ...]:
        """Each problem's scale: the best one for its scheme and knowledge, on images of the adversary's own."""
        chosen = dict.fromkeys(distinct(problems), SCALES[self.prior])
        posed = {key: problem for key, problem in distinct(problems).items() if imitable(problem)}
        for turn, (key, problem) in enumerate(posed.items()):

            def tell(_: str, done: int, of: int, turn: int = turn) -> None:
                progress("rehearsing", turn * of + done, len(posed) * of)

            chosen[key] = self.best_scale(problem, seed, device, tell)
        return tuple(chosen[p.view.scheme, p.knowledge] for p in problems)

    def best_scale(self, problem: Problem, seed: int, device: str, progress: Progress = silent) -> float:
        """The scale that does best, by mean SSIM, on the adversary's own images under the problem's scheme."""
        assert self.public_images is not None
        posed, truth = rehearse(problem, self.public_images, REHEARSALS, device)
        tried = [factor * SCALES[self.prior] for factor in TRIED]
        scales = tuple(scale for scale in tried for _ in posed)
        found = replace(self, scales=scales).run(posed * len(tried), seed, device, progress).images
        truths = truth.repeat(len(tried), 1, 1, 1, 1)
        return best(metrics.ssim(metrics.match(found, truths), truths).view(len(tried), -1), tried)

    def notes(self, match: Match) -> tuple[str, ...]:
        """With which prior, at which scales."""
        told = "total variation" if self.patches is None else f"patches of {self.patches.source}"
        firsts = match.problems[:: self.restarts]
        found = {p.view.scheme: s for p, s in zip(firsts, self.scales, strict=False) if imitable(p)}
        chosen = ""
        if self.public_images is not None and found:
            scales = ", ".join(f"{scale:g} under {scheme}" for scheme, scale in found.items())
            chosen = f", its scale rehearsed on images of {self.public_images.source}: {scales}"
        return (*super().notes(match), f"bayes has a prior of {told}{chosen}")
