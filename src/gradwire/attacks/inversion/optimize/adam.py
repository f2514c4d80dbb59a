"""Adam. D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015, algorithm 1."""

from math import pi
from typing import Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.optimize.optimizer import Box, Evaluate, Optimizer

Decay = Literal["steps", "cosine"]
DECAYS: tuple[Decay, ...] = ("steps", "cosine")
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam(Optimizer):
    """Steps of Adam, of a size that decays from `step` over the iterations; see `Search` for `signed` and `decay`."""

    def __init__(
        self, start: Tensor, box: Box, iterations: int, step: float = 0.1, signed: bool = False, decay: Decay = "steps"
    ):
        self._box, self._iterations, self._step, self._signed, self._decay = box, iterations, step, signed, decay
        self._milestones = torch.tensor([int(share * iterations) for share in MILESTONES], device=start.device)
        zero = torch.zeros_like(start)
        # In float64, in which β₂ to the power of t does not round to one.
        done = torch.zeros((), dtype=torch.float64, device=start.device)
        self.state = {"points": box.clamp(start), "first": zero, "second": zero.clone(), "done": done}

    def step(self, evaluate: Evaluate) -> None:
        """θ ← θ − α·m̂/(√v̂ + ε). A row whose slope is not finite stays where it is."""
        points, first, second, done = (self.state[name] for name in ("points", "first", "second", "done"))
        slopes = evaluate(points)[1].nan_to_num(posinf=0, neginf=0)
        if self._signed:
            slopes = slopes.sign()
        t = done + 1
        first.lerp_(slopes, 1 - BETA1)
        second.mul_(BETA2).addcmul_(slopes, slopes, value=1 - BETA2)
        root = second.sqrt().div_((1 - BETA2**t).sqrt()).add_(EPSILON)
        self.state["points"] = self._box.clamp(points - first / root * (self.size(done) / (1 - BETA1**t)))
        self.state["done"] = t

    def renew(self) -> None:
        """Nothing: of the function only running means are kept."""

    def size(self, done: Tensor) -> Tensor:
        """The step size after so many iterations, both of shape ()."""
        if self._decay == "cosine":
            return self._step * (1 + (done * (pi / self._iterations)).cos()) / 2
        return self._step * 0.1 ** (done >= self._milestones).sum(dtype=done.dtype)
