"""Inverting gradients: cosine distance, total variation, signed Adam.

J. Geiping, H. Bauermeister, H. Dröge, M. Moeller, "Inverting gradients – how easy is it to break privacy in
federated learning?", NeurIPS 2020, eq. 4 and section 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.engine import engine
from gradwire.attacks.inversion.objective import cosine, total_variation
from gradwire.attacks.inversion.problem import Guess, Problem
from gradwire.errors import GradwireError, unknown
from gradwire.schemes import Stack
from gradwire.seeds import generator

Progress = Callable[[int], None]
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
DECAYS = ("steps", "cosine")


@dataclass(frozen=True)
class IGA:
    """Minimise 1 − cos(A(∇L(x, y)), sent) + tv·TV(x) over images x in [0, 1].

    Attributes:
        iterations: steps of signed Adam.
        restarts: independent starts a victim; the one with the lowest objective is the answer.
        tv: the weight of total variation.
        step: Adam's step size.
        signed: follow the sign of the slope, as the paper does for deep networks, or the slope itself, which
            converges much further on small smooth ones (LeNet).
        decay: of the step size: divided by 10 at 3/8, 5/8 and 7/8 of the iterations ("steps", as the paper does),
            or along a half cosine to zero.
    """

    name: ClassVar[str] = "iga"

    iterations: int = 1000
    restarts: int = 1
    tv: float = 1e-4
    step: float = 0.1
    signed: bool = True
    decay: Literal["steps", "cosine"] = "steps"

    def __post_init__(self) -> None:
        for name in ("iterations", "restarts"):
            if getattr(self, name) < 1:
                raise GradwireError(f"iga: {name} is {getattr(self, name)}; it must be at least 1")
        if self.tv < 0:
            raise GradwireError(f"iga: tv is {self.tv}; it must not be negative")
        if not self.step > 0:
            raise GradwireError(f"iga: step is {self.step}; it must be positive")
        if self.decay not in DECAYS:
            raise unknown("decay", self.decay, DECAYS)

    def run(
        self, problems: Sequence[Problem], seed: int = 0, device: str = "cpu", progress: Progress | None = None
    ) -> Guess:
        """Attack all problems as one batch: they share a model, a mode and a shape, not a scheme."""
        first = problems[0].view
        rows = [problem for problem in problems for _ in range(self.restarts)]
        gradients = engine(first.model, first.mode, first.loss, first.shape, device).gradients
        labels = torch.stack([problem.labels for problem in rows]).to(device)
        images = torch.stack([self._start(p, r, seed) for p in problems for r in range(self.restarts)]).to(device)
        stack = Stack.of([problem.measurement for problem in rows], images)

        def objective(candidates: Tensor) -> Tensor:
            distance = cosine(*stack.moments(gradients(candidates, labels)), stack.energy)
            return distance + self.tv * total_variation(candidates)

        images.requires_grad_()
        adam = torch.optim.Adam([images], lr=self.step)
        schedule = self._schedule(adam)
        for _ in range(self.iterations):
            (slope,) = torch.autograd.grad(objective(images).sum(), images)
            slope = slope.nan_to_num()
            images.grad = slope.sign() if self.signed else slope
            adam.step()
            schedule.step()
            with torch.no_grad():
                images.clamp_(0, 1)
            if progress is not None:
                progress(len(problems))
        final = objective(images).detach()
        return self._best(images.detach().cpu(), final.cpu(), problems)

    def _start(self, problem: Problem, restart: int, seed: int) -> Tensor:
        """Noise around mid-grey, the same for every scheme that attacks the same victim."""
        noise = torch.randn(problem.view.shape, generator=generator("start", seed, problem.salt, restart))
        return (0.5 + 0.25 * noise).clamp(0, 1)

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        if self.decay == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        milestones = [int(share * self.iterations) for share in MILESTONES]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)

    def _best(self, images: Tensor, objective: Tensor, problems: Sequence[Problem]) -> Guess:
        """Each victim's restart of lowest objective: chosen by what the adversary has, and by nothing else."""
        lost = ~objective.isfinite()
        ranked = objective.masked_fill(lost, float("inf")).view(len(problems), self.restarts)
        chosen = ranked.argmin(1)
        rows = torch.arange(len(problems)) * self.restarts + chosen
        labels = torch.stack([problem.labels for problem in problems])
        return Guess(images[rows], labels, ranked.min(1).values, self.iterations, int(lost.sum()))
