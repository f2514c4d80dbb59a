"""L-BFGS with a line search that takes a value and a slope at one trial point at a time.

- J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed., 2006: eq. 3.6 (the weak Wolfe conditions); the direction
  is in `pairs`.
- A. S. Lewis, M. L. Overton, "Nonsmooth optimization via quasi-Newton methods", 2013, algorithm 2.6 (bisection for the
  weak Wolfe conditions).
"""

import torch
from torch import Tensor

from gradwire.attacks.inversion.optimize import pairs
from gradwire.attacks.inversion.optimize.optimizer import Box, Evaluate, Optimizer

DECREASE, CURVATURE = 1e-4, 0.9
TRIALS = 25
"""Trial lengths after which a row takes what it has, or forgets its memory and goes down the slope."""


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
        self.state = {"points": self._box.clamp(start), **self._begun(start), **pairs.empty(start, history)}

    @staticmethod
    def _begun(points: Tensor) -> dict[str, Tensor]:
        """A line search whose first trial is the point itself: a step of length zero, which is accepted."""
        per_row = points.new_zeros(len(points))
        return {
            "values": per_row + torch.inf,
            "slopes": torch.zeros_like(points),
            "direction": torch.zeros_like(points),
            "length": per_row + 1,
            "low": per_row.clone(),
            "high": per_row + torch.inf,
            "trials": per_row.clone(),
        }

    def renew(self) -> None:
        """Begin anew with an empty memory."""
        self.state |= self._begun(self.points)
        pairs.forget(self.state, torch.ones_like(self.state["held"], dtype=torch.bool))

    def step(self, evaluate: Evaluate) -> None:
        """Evaluate each row's trial point; those that are good enough become the row's point."""
        now = self.state
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
        change = slopes - now["slopes"]
        now["points"] = torch.where(accepted[:, None], trial, now["points"])
        now["values"] = torch.where(accepted, values, now["values"])
        now["slopes"] = torch.where(accepted[:, None], slopes, now["slopes"])
        lost = last & ~accepted
        pairs.forget(now, lost)
        self._bisect(decreased)
        self._aim(accepted, lost, moved, change)

    def _bisect(self, decreased: Tensor) -> None:
        """The next trial length: too long where the value did not fall, too short where it falls on."""
        now = self.state
        now["high"] = torch.where(decreased, now["high"], now["length"])
        now["low"] = torch.where(decreased, now["length"], now["low"])
        bracketed = now["high"].isfinite()
        now["length"] = torch.where(bracketed, (now["low"] + now["high"]) / 2, 2 * now["length"])
        now["trials"] = now["trials"] + 1

    def _aim(self, accepted: Tensor, lost: Tensor, step: Tensor, change: Tensor) -> None:
        """A new direction, and the first length to try along it, for rows that have moved or lost their way."""
        now, rows = self.state, accepted | lost
        leaving = self._box.leaving(now["points"], now["slopes"])
        down = (-now["slopes"]).masked_fill_(leaving, 0)
        direction = pairs.recursion(now, accepted, step, change, down)
        # An empty memory says nothing of the scale: the first trial is then of length 1.
        fresh = ((direction * down).sum(1) <= 0) | (now["held"] == 0)
        direction = torch.where(fresh[:, None], down, direction)
        first = torch.where(fresh, 1 / down.norm(dim=1).clamp_min(1e-30), 1.0)
        there = self._box.clamp(now["points"] - now["slopes"].sign() * torch.inf)
        direction = torch.where(leaving, (there - now["points"]) / first[:, None], direction)
        now["direction"] = torch.where(rows[:, None], direction, now["direction"])
        now["length"] = torch.where(rows, first, now["length"])
        for name, value in (("low", 0.0), ("high", torch.inf), ("trials", 0.0)):
            now[name] = now[name].masked_fill(rows, value)
