"""Inverting gradients: cosine distance and total variation.

J. Geiping, H. Bauermeister, H. Dröge, M. Moeller, "Inverting gradients – how easy is it to break privacy in
federated learning?", NeurIPS 2020, eq. 4 and section 5. Two terms may be added that H. Yin et al., "See through
gradients: Image batch recovery via GradInversion", CVPR 2021, bring in: eq. 9 and 11.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.inversion.match import Match, cosine, total_variation
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError, not_negative
from gradwire.tasks import Domain


@dataclass(frozen=True)
class IGA(Search):
    """Minimise 1 − cos(A(∇L(x, y)), sent) + tv·TV(x) over images x in [0, 1].

    Where no values were sent (but signs or quantisation cells), the share of the gradient that contradicts them is
    added.

    Attributes:
        tv: the weight of total variation.
        bn: the weight of the distance between the images' batch-norm statistics and those of the victim's own batch,
            where it sent them beside its update, or the model's running ones.
        group: the weight of the mean squared distance to the mean of the victim's restarts (not registered).
    """

    name: ClassVar[str] = "iga"

    tv: float = 1e-4
    bn: float = 0.0
    group: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self.name, self, "tv", "bn", "group")
        if self.group and self.restarts < 2:
            raise GradwireError(f"iga: group is {self.group} and restarts {self.restarts}; a group takes at least 2")

    def suits(self, domain: Domain) -> None:
        """Refuse total variation of what is no picture."""
        super().suits(domain)
        if self.tv:
            self.needs_pictures(domain, f"tv={self.tv:g}", f"say {self.name}:tv=0")

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """Eq. 4, and the terms beside it."""
        gradients, stack = match.gradients(images), match.stack
        value = cosine(*stack.moments(gradients), stack.energy) + stack.violation(gradients)
        return value + self.priors(match, images)

    def priors(self, match: Match, images: Tensor) -> Tensor:
        """The terms that do not depend on what was sent, shape (V,)."""
        value = self.tv * total_variation(images) if self.tv else images.new_zeros(len(images))
        if self.bn:
            value = value + self.bn * match.statistics.distance(match.held(images))
        if self.group:
            value = value + self.group * apart(images, self.restarts)
        return value


def apart(images: Tensor, restarts: int) -> Tensor:
    """The mean squared distance of each row to the mean of its victim's restarts: (V, …) → (V,).

    The mean has no slope: each restart is drawn to it and does not move it. Yin et al. 2021, eq. 11.
    """
    groups = images.unflatten(0, (-1, restarts))
    mean = groups.detach().mean(1, keepdim=True)
    return (groups - mean).flatten(2).square().mean(2).flatten()
