"""The Bayes-optimal adversary: the images that are likeliest, given what was sent and how images look.

M. Balunović, D. I. Dimitrov, R. Staab, M. Vechev, "Bayesian framework for gradient leakage", ICLR 2022, eq. 6: maximise
log p(g | x) + log p(x). What p(g | x) is, the defence decides.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.objective import total_variation
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Bayes(Search):
    """Minimise ‖A(∇L(x, y)) − sent‖²/(2σ²) + Σ|x_i − x_j|/scale over images x in [0, 1], i and j neighbours.

    The likelihood is Gaussian around the measurement A of the scheme: all entries of a noisy gradient, the kept ones
    of a sparse one. σ is the noise that the scheme adds; where it adds none, a small one stands for whatever the
    model of the victim leaves out (rounding, for one). The prior is a Laplace distribution of the differences between
    neighbouring pixels, which is total variation.

    Attributes:
        scale: of the prior. Neighbouring pixels of real images differ by 0.05 to 0.3; but under noise the likeliest
            image of a narrow prior may be a flat one. Rough small images (digits) under much noise want 1.
        slack: the least σ, in units of the root mean square of what was sent.
    """

    name: ClassVar[str] = "bayes"

    signed: bool = False
    decay: Literal["steps", "cosine"] = "cosine"
    scale: float = 0.1
    slack: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "slack"):
            if not getattr(self, name) > 0:
                raise GradwireError(f"bayes: {name} is {getattr(self, name)}; it must be positive")

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """−log p(g | x) − log p(x), without what does not depend on x."""
        likelihood = match.stack.surprise(match.gradients(images), self.variance(match))
        # Down and across alike: as many differences as there are pixels, but for the last row and column.
        pixels = images[0].numel()
        return likelihood + pixels * total_variation(images) / self.scale

    def variance(self, match: Match) -> Tensor:
        """σ² of each row's measurement, shape (V,)."""
        stated = torch.tensor([problem.deviation for problem in match.problems]).to(match.stack.energy)
        least = self.slack**2 * match.stack.energy / match.stack.counts()
        return torch.maximum(stated.square(), least).clamp_min(torch.finfo(least.dtype).tiny)
