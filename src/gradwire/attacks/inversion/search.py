"""The search that iterative attacks share: noise, steps of Adam within [0, 1], restarts ranked by what is minimised."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Guess, Problem
from gradwire.errors import GradwireError, unknown
from gradwire.seeds import generator

Progress = Callable[[int], None]
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
DECAYS = ("steps", "cosine")


@dataclass(frozen=True)
class Search(ABC):
    """Minimise a value over images in [0, 1]. Subclasses say which.

    Attributes:
        iterations: steps of Adam.
        restarts: independent starts a victim; the one with the lowest value is the answer.
        step: Adam's step size.
        signed: follow the sign of the slope, as Geiping et al. do for deep networks, or the slope itself, which
            converges much further on small smooth ones (LeNet).
        decay: of the step size: divided by 10 at 3/8, 5/8 and 7/8 of the iterations ("steps", Geiping et al.), or
            along a half cosine to zero.
    """

    name: ClassVar[str]

    iterations: int = 1000
    restarts: int = 1
    step: float = 0.1
    signed: bool = True
    decay: Literal["steps", "cosine"] = "steps"

    def __post_init__(self) -> None:
        for name in ("iterations", "restarts"):
            if getattr(self, name) < 1:
                raise GradwireError(f"{self.name}: {name} is {getattr(self, name)}; it must be at least 1")
        if not self.step > 0:
            raise GradwireError(f"{self.name}: step is {self.step}; it must be positive")
        if self.decay not in DECAYS:
            raise unknown("decay", self.decay, DECAYS)

    @abstractmethod
    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """What is minimised, shape (V,), at images (V, B, C, H, W) and the attack's other unknowns."""

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """Where the attack's other unknowns start, each of shape (V, …); none by default."""
        return ()

    def run(
        self, problems: Sequence[Problem], seed: int = 0, device: str = "cpu", progress: Progress | None = None
    ) -> Guess:
        """Attack all problems as one batch: they share a model, a mode and a shape, not a scheme."""
        match = Match.of([problem for problem in problems for _ in range(self.restarts)], device)
        images = torch.stack([self._start(p, r, seed) for p in problems for r in range(self.restarts)]).to(device)
        unknowns = [images.requires_grad_(), *(extra.requires_grad_() for extra in self.extras(match, seed))]
        adam = torch.optim.Adam(unknowns, lr=self.step)
        schedule = self._schedule(adam)
        for _ in range(self.iterations):
            slopes = torch.autograd.grad(self.value(match, *unknowns).sum(), unknowns)
            for unknown_, slope in zip(unknowns, slopes, strict=True):
                # A row that is not finite stays where it is, and is given up at the end.
                slope = slope.nan_to_num()
                unknown_.grad = slope.sign() if self.signed else slope
            adam.step()
            schedule.step()
            with torch.no_grad():
                images.clamp_(0, 1)
            if progress is not None:
                progress(len(problems))
        final = self.value(match, *unknowns).detach()
        return self._best(images.detach().cpu(), final.cpu(), match)

    def _start(self, problem: Problem, restart: int, seed: int) -> Tensor:
        """Noise around mid-grey, the same for every scheme that attacks the same victim."""
        noise = torch.randn(problem.view.shape, generator=generator("start", seed, problem.salt, restart))
        return (0.5 + 0.25 * noise).clamp(0, 1)

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        if self.decay == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        milestones = [int(share * self.iterations) for share in MILESTONES]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)

    def _best(self, images: Tensor, values: Tensor, match: Match) -> Guess:
        """Each victim's restart of lowest value: chosen by what the adversary has, and by nothing else."""
        lost = ~values.isfinite()
        ranked = values.masked_fill(lost, float("inf")).view(-1, self.restarts)
        rows = torch.arange(len(ranked)) * self.restarts + ranked.argmin(1)
        labels = match.labels.cpu()[rows]
        return Guess(images[rows], labels, ranked.min(1).values, self.iterations, int(lost.sum()), match.engine.notes)
