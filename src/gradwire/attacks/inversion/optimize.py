"""Adam and L-BFGS for many rows at once, within bounds: each row is a problem of its own, evaluated in one batch.

- D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015, algorithm 1.
- J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed., 2006: algorithm 7.4 (the two-loop recursion), eq. 3.6
  (the weak Wolfe conditions).
- A. S. Lewis, M. L. Overton, "Nonsmooth optimization via quasi-Newton methods", 2013, algorithm 2.6 (bisection for the
  weak Wolfe conditions, which takes a value and a slope at one trial point at a time).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (R, N) → values (R,) and slopes (R, N). Rows do not mix."""
Decay = Literal["steps", "cosine"]
DECAYS: tuple[Decay, ...] = ("steps", "cosine")
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
DECREASE, CURVATURE = 1e-4, 0.9
TRIALS = 25
"""Trial lengths after which a row takes what it has, or forgets its memory and goes down the slope."""


@dataclass(frozen=True)
class Box:
    """Bounds of every coordinate, shape (N,); infinite where there is none."""

    low: Tensor
    high: Tensor

    @classmethod
    def everywhere(cls, start: Tensor) -> "Box":
        """No bounds at all, for points like `start`."""
        return cls(torch.full_like(start[0], -torch.inf), torch.full_like(start[0], torch.inf))

    def clamp(self, points: Tensor) -> Tensor:
        """The nearest points within the bounds."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def leaving(self, points: Tensor, slopes: Tensor) -> Tensor:
        """Whether a coordinate is within a hundredth of the box from a bound and its slope pushes it outwards."""
        margin = (self.high - self.low) / 100
        return ((points <= self.low + margin) & (slopes > 0)) | ((points >= self.high - margin) & (slopes < 0))


class Optimizer(ABC):
    """Minimises R functions side by side, one evaluation of all of them an iteration.

    Attributes:
        state: everything that the next iteration depends on, by name, with `points` (R, N). Iterations after it has
            been stored and restored are the same to the last bit.
    """

    state: dict[str, Tensor]

    @property
    def points(self) -> Tensor:
        """The rows' present points, shape (R, N)."""
        return self.state["points"]

    @abstractmethod
    def step(self, evaluate: Evaluate) -> None:
        """Do one iteration."""

    @abstractmethod
    def renew(self) -> None:
        """Forget the function: from here on another one is minimised, from the present points."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that was stored."""
        self.state = {name: state[name].to(kept.device) for name, kept in self.state.items()}


class Adam(Optimizer):
    """Steps of Adam, of a size that decays from `step` over the iterations; see `Search` for `signed` and `decay`."""

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

    def renew(self) -> None:
        """Nothing: of the function only running means are kept."""

    def size(self, iteration: int) -> float:
        """The step size of an iteration, the first being 0."""
        if self._decay == "cosine":
            return self._step * (1 + cos(pi * iteration / self._iterations)) / 2
        passed = sum(iteration >= int(share * self._iterations) for share in MILESTONES)
        return self._step * 0.1**passed


class LBFGS(Optimizer):
    """L-BFGS with a memory of `history` pairs and a line search for each row.

    An iteration is one evaluation of all rows: some try a first length, others a shorter or longer one.

    A trial is the point x + t·d brought back into the box. Coordinates that are about to leave the box go straight to
    their bound and are left out of the recursion: D. P. Bertsekas, "Projected Newton methods for optimization problems
    with simple constraints", 1982, shows that the value falls along such a path, and may not along another. Pairs
    (s, y) without positive curvature are not remembered.
    """

    def __init__(self, start: Tensor, box: Box | None = None, history: int = 20):
        self._box = Box.everywhere(start) if box is None else box
        rows, size = start.shape
        per_row = start.new_zeros(rows)
        self.state = {
            "points": self._box.clamp(start),
            "values": per_row + torch.inf,
            "slopes": torch.zeros_like(start),
            "direction": torch.zeros_like(start),
            "length": per_row + 1,
            "low": per_row.clone(),
            "high": per_row + torch.inf,
            "trials": per_row.clone(),
            "steps": start.new_zeros(history, rows, size),
            "changes": start.new_zeros(history, rows, size),
            # 1/sᵀy, and zero in an empty place, which then adds nothing to the recursion.
            "rho": start.new_zeros(history, rows),
            "begun": torch.zeros((), dtype=torch.bool),
        }

    def step(self, evaluate: Evaluate) -> None:
        """Evaluate each row's trial point; those that are good enough become the row's point."""
        now = self.state
        if not now["begun"]:
            now["values"], slopes = evaluate(now["points"])
            now["slopes"] = slopes.nan_to_num(posinf=0, neginf=0)
            now["begun"] = torch.ones((), dtype=torch.bool)
            self._aim(torch.ones_like(now["values"], dtype=torch.bool))
            return
        aimed = now["points"] + now["length"][:, None] * now["direction"]
        trial = self._box.clamp(aimed)
        values, slopes = evaluate(trial)
        moved = trial - now["points"]
        along = (now["slopes"] * moved).sum(1)
        finite = values.isfinite() & slopes.isfinite().all(1)
        decreased = finite & (values <= now["values"] + DECREASE * along)
        curved = (slopes * moved).sum(1) >= CURVATURE * along
        # Beyond a bound the path bends: to ask for curvature there would lengthen a step that leads into a corner.
        bent = (trial != aimed).any(1)
        last = now["trials"] + 1 >= TRIALS
        accepted = decreased & (curved | bent | last)
        self._remember(accepted, moved, slopes - now["slopes"])
        now["points"] = torch.where(accepted[:, None], trial, now["points"])
        now["values"] = torch.where(accepted, values, now["values"])
        now["slopes"] = torch.where(accepted[:, None], slopes, now["slopes"])
        lost = last & ~accepted
        now["rho"] = now["rho"].masked_fill(lost, 0)
        self._bisect(decreased)
        self._aim(accepted | lost)

    def renew(self) -> None:
        """Begin anew with an empty memory."""
        now = self.state
        now["rho"] = torch.zeros_like(now["rho"])
        now["begun"] = torch.zeros((), dtype=torch.bool)

    def _bisect(self, decreased: Tensor) -> None:
        """The next trial length: too long where the value did not fall, too short where it falls on."""
        now = self.state
        now["high"] = torch.where(decreased, now["high"], now["length"])
        now["low"] = torch.where(decreased, now["length"], now["low"])
        bracketed = now["high"].isfinite()
        now["length"] = torch.where(bracketed, (now["low"] + now["high"]) / 2, 2 * now["length"])
        now["trials"] = now["trials"] + 1

    def _remember(self, accepted: Tensor, step: Tensor, change: Tensor) -> None:
        """Append (s, y) to the memory of the rows that have moved along a positive curvature."""
        now = self.state
        curvature = (step * change).sum(1)
        enough = accepted & (curvature > 1e-10 * step.norm(dim=1) * change.norm(dim=1))
        rows = enough.nonzero()[:, 0]
        for name, new in (("steps", step), ("changes", change), ("rho", 1 / curvature)):
            memory = now[name]
            memory[:, rows] = torch.cat([memory[1:, rows], new[rows][None]])

    def _aim(self, rows: Tensor) -> None:
        """A new direction, and the first length to try along it, for some rows."""
        now = self.state
        leaving = self._box.leaving(now["points"], now["slopes"])
        slopes = now["slopes"].masked_fill(leaving, 0)
        direction = -self._recursion(slopes)
        # An empty memory says nothing of the scale: the first trial is then of length 1.
        fresh = ((direction * slopes).sum(1) >= 0) | (now["rho"][-1] == 0)
        direction = torch.where(fresh[:, None], -slopes, direction)
        first = torch.where(fresh, 1 / slopes.norm(dim=1).clamp_min(1e-30), torch.ones_like(now["length"]))
        there = self._box.clamp(now["points"] - now["slopes"].sign() * torch.inf)
        direction = torch.where(leaving, (there - now["points"]) / first[:, None], direction)
        now["direction"] = torch.where(rows[:, None], direction, now["direction"])
        now["length"] = torch.where(rows, first, now["length"])
        for name, value in (("low", 0.0), ("high", torch.inf), ("trials", 0.0)):
            now[name] = now[name].masked_fill(rows, value)

    def _recursion(self, slopes: Tensor) -> Tensor:
        """H·g, algorithm 7.4, with H₀ = (sᵀy/yᵀy)·I of the latest pair."""
        steps, changes, rho = (self.state[name] for name in ("steps", "changes", "rho"))
        q, alphas = slopes.clone(), []
        for s, y, r in zip(steps.flip(0), changes.flip(0), rho.flip(0), strict=True):
            alpha = r * (s * q).sum(1)
            alphas.append(alpha)
            q = q - alpha[:, None] * y
        squared = changes[-1].square().sum(1)
        scale = torch.where(rho[-1] > 0, 1 / (rho[-1] * squared).clamp_min(1e-30), torch.ones_like(squared))
        q = scale[:, None] * q
        for s, y, r, alpha in zip(steps, changes, rho, reversed(alphas), strict=True):
            q = q + (alpha - r * (y * q).sum(1))[:, None] * s
        return q
