"""TAG: the squared and the absolute distance of gradients together.

J. Deng et al., "TAG: Gradient attack on transformer-based language models", EMNLP Findings 2021, eq. 4.
"""

from dataclasses import dataclass

from gradwire.attacks.inversion.search import Search


@dataclass(frozen=True)
class TAG(Search):
    """Minimise ‖A(G) − y‖² + alpha·‖A(G) − y‖₁ over images in [0, 1]."""

    name = "tag"
    alpha: float = 0.01

    def value(self, match, images, *extras):
        return match.total(images, lambda off: off.square().sum(1) + self.alpha * off.abs().sum(1))
