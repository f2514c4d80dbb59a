"""Inverting gradients: cosine distance and total variation.

J. Geiping, H. Bauermeister, H. Dröge, M. Moeller, "Inverting gradients – how easy is it to break privacy in
federated learning?", NeurIPS 2020, eq. 4 and section 5.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.objective import cosine, total_variation
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError


@dataclass(frozen=True)
class IGA(Search):
    """Minimise 1 − cos(A(∇L(x, y)), sent) + tv·TV(x) over images x in [0, 1].

    Attributes:
        tv: the weight of total variation.
    """

    name: ClassVar[str] = "iga"

    tv: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tv < 0:
            raise GradwireError(f"iga: tv is {self.tv}; it must not be negative")

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """Eq. 4."""
        return cosine(*match.moments(images)) + self.tv * total_variation(images)
