"""Deep leakage from gradients: the Euclidean distance of gradients, over images and labels together.

L. Zhu, Z. Liu, S. Han, "Deep leakage from gradients", NeurIPS 2019, eq. 4 and algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels import last_linear
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError
from gradwire.seeds import generator


@dataclass(frozen=True)
class DLG(Search):
    """Minimise ‖A(∇L(x, softmax(y))) − sent‖² over images x in [0, 1] and, where labels are not known, logits y.

    The paper uses L-BFGS; Adam, with the slope itself, is what later comparisons use, and the default here: measured on
    LeNet and Fashion-MNIST, L-BFGS is ahead for some hundred iterations, and Adam alone ends at the image (SSIM 1.0
    after 3,000).
    """

    name: ClassVar[str] = "dlg"

    signed: bool = False
    decay: Literal["steps", "cosine"] = "cosine"

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """Eq. 4."""
        return match.distance(images, *(logits.softmax(-1) for logits in extras))

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """Logits of the labels, shape (V, B, classes), from a normal distribution, if the view does not hold labels."""
        known = {problem.view.targets is not None for problem in match.problems}
        if len(known) > 1:
            raise GradwireError("some of the views hold labels and some do not; attack them apart")
        if known == {True}:
            return ()
        model = match.problems[0].view.model
        shape = (match.targets.shape[1], len(model.get_parameter(last_linear(model)[0])))
        # Restarts of a victim follow one another: its n-th row is its n-th restart.
        rows = enumerate(match.problems)
        draws = [generator("labels", seed, problem.salt, row % self.restarts) for row, problem in rows]
        return (torch.stack([torch.randn(shape, generator=draw) for draw in draws]).to(match.targets.device),)

    def targets(self, match: Match, *extras: Tensor) -> Tensor:
        """The likeliest classes, where labels were sought."""
        return extras[0].argmax(-1) if extras else match.targets
