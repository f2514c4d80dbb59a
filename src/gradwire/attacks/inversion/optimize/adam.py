"""Adam, within bounds.

D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015, algorithm 1.
"""

from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.optimize.optimizer import Box, Evaluate, Optimizer

Decay = Literal["steps", "cosine"]
DECAYS: tuple[Decay, ...] = ("steps", "cosine")
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam(Optimizer):
    """Steps of Adam, of a size that decays towards the end.

    Args:
        start: where the rows begin, shape (R, N).
        box: where they must stay.
        iterations: how many steps there will be.
        step: the first step's size.
        signed: follow the sign of the slope, not the slope.
        decay: "steps" divides the step size by 10 at 3/8, 5/8 and 7/8 of the iterations, "cosine" takes it along a
            half cosine to zero.
    """

    def __init__(
        self, start: Tensor, box: Box, iterations: int, step: float = 0.1, signed: bool = False, decay: Decay = "steps"
    ):
        self._box, self._iterations, self._step, self._signed, self._decay = box, iterations, step, signed, decay
        zero = torch.zeros_like(start)
        done = torch.zeros((), dtype=torch.int64)
        self.state = {"points": box.clamp(start), "first": zero, "second": zero.clone(), "done": done}

    def step(self, evaluate: Evaluate) -> None:
        """θ ← θ − α·m̂/(√v̂ + ε). A row whose slope is not finite stays where it is."""
        points, first, second, done = self.state.values()
        slopes = evaluate(points)[1].nan_to_num(posinf=0, neginf=0)
        if self._signed:
            slopes = slopes.sign()
        size = self.size(int(done))
        t = int(done.add_(1))
        first.lerp_(slopes, 1 - BETA1)
        second.mul_(BETA2).addcmul_(slopes, slopes, value=1 - BETA2)
        root = second.sqrt().div_((1 - BETA2**t) ** 0.5).add_(EPSILON)
        self.state["points"] = self._box.clamp(points.addcdiv(first, root, value=-size / (1 - BETA1**t)))

    def size(self, iteration: int) -> float:
        """The step size of an iteration, the first being 0."""
        if self._decay == "cosine":
            return self._step * (1 + cos(pi * iteration / self._iterations)) / 2
        passed = sum(iteration >= int(share * self._iterations) for share in MILESTONES)
        return self._step * 0.1**passed
