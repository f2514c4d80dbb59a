"""R-GAP: one image behind a chain of layers, from the last layer to the first, by linear equations.

J. Zhu, M. Blaschko, "R-GAP: Recursive gradient attack on privacy", ICLR 2021. A layer z = W*x + b with slopes k at z
has ∂W = k*x. Where z and k are known, both are linear equations for what the layer received, the paper's weight and
gradient constraints; by least squares they give x, if their rank is that of x (the paper's rank analysis). From x
follow z and k of the layer before: σ(z) = x, and k = σ'(z)·Wᵀk.

Otherwise than in the paper:

- The paper begins with a binary loss, whose equation it solves for the logit. Here the slopes k at the logits are the
  gradient of the last layer's bias, whatever the loss: p − y under cross-entropy. Then x = ∂Wᵀk / ‖k‖². Without a bias,
  ∂W = k·xᵀ leaves a scale open, at which the loss must have these slopes. If it has them at two, these are the paper's
  twins.
- Layers may have biases. A ReLU gives equations where it is on. Equations of z count by how well σ(z) tells it.
- Through PowerSGD a sketch Pᵀ·∂W = (Pᵀk)*x may be enough, which has fewer equations.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known
from gradwire.attacks.inversion.exact.chain import Chain
from gradwire.attacks.inversion.exact.closed_form import Solution
from gradwire.attacks.inversion.exact.equations import CONTRADICT, Equations, enough, twice
from gradwire.attacks.inversion.exact.matrices import whole
from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.wire import View

LARGEST = 6000
"""Numbers that enter a layer, at most: their square is held in memory, and their cube is the time."""
KINK = 1e-2
"""Two slopes that differ by a larger share are those of an activation's two sides, between which rounding decides."""
PRECISE = 1e-2
"""How far another rounding may move an image that counts as determined, as a share of its norm."""
SCALES = torch.logspace(-4, 4, 81, dtype=torch.float64).tolist()
"""Scales of features between which the loss's equation may change its sign."""


@dataclass(frozen=True)
class Rgap:
    """Solve for what each layer received, the last one first.

    It is done twice, with what was sent and with further rounding: how far the two differ is how far what was sent
    determines the image.
    """

    name: ClassVar[str] = "rgap"

    chain: Chain

    @classmethod
    def of(cls, view: View) -> "Rgap":
        """For a view's network; GradwireError where its batch or its layers are others, or leave numbers open."""
        if view.shape[0] > 1:
            raise GradwireError(f"rgap goes back from what is known of one image; the batch has {view.shape[0]}")
        chain = Chain.of(view)
        *others, head = chain.layers
        if head.shape[1:] != (1, 1):
            raise GradwireError(f"rgap needs a linear layer as the last one; {head.name!r} is a convolution")
        for layer in others:
            places, channels = prod(layer.places), len(layer.weight)
            enough(layer, min(channels, places), channels * places)
            if (size := prod(layer.shape)) > LARGEST:
                raise GradwireError(f"rgap solves for {LARGEST:,} numbers at most; {size:,} enter {layer.name!r}")
        return cls(chain)

    def solution(self, problem: Problem, random: torch.Generator) -> Solution:
        """The image.

        Raises:
            GradwireError: what was sent is not of one image, or leaves open what some layer received.
        """
        received, slopes = self._head(problem, random)
        slopes = self.chain.layers[-1].back(slopes[..., None, None])
        for layer in reversed(self.chain.layers[:-1]):
            z, steep = layer.inverted(received)
            steep = torch.where((steep[1] - steep[0]).abs() > KINK * steep[0], steep[:1], steep)
            slopes = steep * slopes.view_as(steep)
            terms = problem.measurement.get(f"{layer.name}.weight", ())
            received = Equations.of(layer, terms, z, steep[:1], slopes, random).solved()
            slopes = layer.back(slopes)
        moved = float((received[1] - received[0]).norm() / received[0].norm())
        image = self.chain.entrance.undone(received[0], nothing_known(problem.view.task.domain))[None]
        told = f"another rounding of what was sent moves the image by {moved:.0e} of its norm"
        return Solution(image, moved <= PRECISE and self.chain.entrance.whole, told)

    def _head(self, problem: Problem, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the last layer received (2, m), and the slopes at its outputs (2, n)."""
        head = self.chain.layers[-1]
        sent, beside = (problem.measurement.get(f"{head.name}.{part}", ()) for part in ("weight", "bias"))
        weight, bias = whole(sent, head.weight.shape[:2], 1), whole(beside, head.bias.shape)
        if weight is None:
            raise GradwireError(f"rgap needs all of the gradient of '{head.name}.weight'; a part was sent")
        weights = twice(weight, sent, random)
        if bias is None:
            slopes = torch.stack([self._scaled(problem, weight) for weight in weights])
        else:
            slopes = twice(bias, beside, random)
        received = (slopes[:, None] @ weights)[:, 0] / slopes.square().sum(1, keepdim=True)
        off = float((weights[0] - torch.outer(slopes[0], received[0])).norm() / weights[0].norm())
        if not off <= CONTRADICT:
            raise GradwireError(f"rgap finds that the gradient of '{head.name}.weight' is not that of one image")
        return received, slopes

    def _scaled(self, problem: Problem, weight: Tensor) -> Tensor:
        """The slopes k (n,) at the logits for ∂W = k·xᵀ, where no bias tells them: those that the loss has at W·x."""
        from scipy.optimize import brentq  # type: ignore[import-untyped]

        head, loss, targets = self.chain.layers[-1], problem.view.task.loss, problem.targets.cpu()
        if not self.chain.ends or not targets.numel():
            raise GradwireError(f"rgap needs the gradient of a bias of {head.name!r}, or its loss and the label")
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        slopes, logits = s[0] * u[:, 0], head.weight[..., 0, 0] @ v[0]

        def off(scale: float) -> Tensor:
            outputs = (scale * logits + head.bias)[None].requires_grad_()
            return scale * torch.autograd.grad(loss(outputs, targets), outputs)[0][0] - slopes

        def along(scale: float) -> float:
            return float(off(scale) @ slopes)

        ways = [[(sign * scale, along(sign * scale)) for scale in SCALES] for sign in (-1, 1)]
        scales = [brentq(along, a, b) for way in ways for (a, one), (b, other) in pairwise(way) if one * other < 0]
        scales = [scale for scale in scales if off(scale).norm() <= CONTRADICT * slopes.norm()]
        if len(scales) != 1:
            told = f"{len(scales)} twins" if scales else "no image"
            raise GradwireError(f"rgap: {told} would give the gradient of '{head.name}.weight', which has no bias")
        return slopes / scales[0]
