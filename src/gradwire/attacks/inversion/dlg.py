"""Deep leakage from gradients: the Euclidean distance of gradients, over images and labels together.

L. Zhu, Z. Liu, S. Han, "Deep leakage from gradients", NeurIPS 2019, eq. 4 and algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels.head import outputs
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Problem
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

    def seeks_targets(self, problems: Sequence[Problem]) -> bool:
        """Where none is known, and a softmax of what is sought is what the loss takes: probabilities of classes."""
        view = problems[0].view
        return view.targets is None and view.task.loss.probabilities

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """Logits of the labels, shape (V, B, classes), from a normal distribution, if the view does not hold labels."""
        known = {problem.view.targets is not None for problem in match.problems}
        if len(known) > 1:
            raise GradwireError("some of the views hold labels and some do not; attack them apart")
        if known == {True}:
            return ()
        view = match.problems[0].view
        shape = (match.targets.shape[1], outputs(view.model, view.mode, view.task))
        # Restarts of a victim follow one another: its n-th row is its n-th restart.
        rows = enumerate(match.problems)
        draws = [generator("labels", seed, problem.salt, row % self.restarts) for row, problem in rows]
        return (torch.stack([torch.randn(shape, generator=draw) for draw in draws]).to(match.targets.device),)

    def targets(self, match: Match, *extras: Tensor) -> Tensor:
        """The likeliest classes, where labels were sought."""
        return extras[0].argmax(-1) if extras else match.targets
