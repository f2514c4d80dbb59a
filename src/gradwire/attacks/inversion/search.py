"""The search that iterative attacks share: noise, an optimiser within the domain, restarts by rank."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.checkpoint import Checkpoint, fingerprint
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.optimize import DECAYS, LBFGS, Adam, Box, Decay, Optimizer
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.errors import GradwireError, check_counts, check_words, positive
from gradwire.progress import Progress, silent
from gradwire.seeds import generator
from gradwire.tasks import Domain, Pixels

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
OPTIMIZERS = ("adam", "lbfgs")
EVERY = 100
"""Iterations from one checkpoint to the next."""


@contextmanager
def computing(precision: Precision, device: str) -> Iterator[None]:
    """Compute in a precision for a while, and leave PyTorch's switches as they were.

    "tf32" gives products on CUDA cards 10 bits of mantissa (elsewhere it is fp32); "bf16" is mixed precision with 7
    bits (`torch.autocast`).
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (products.allow_tf32, convolutions.allow_tf32)
    try:
        products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@dataclass(frozen=True)
class Search(Specified, ABC):
    """Minimise a value, which subclasses define, over inputs within their domain.

    Attributes:
        iterations: evaluations of the value and its slope, each of them a step of Adam or a trial of L-BFGS.
        restarts: independent starts a victim; the one with the lowest value is the answer.
        step: Adam's step size.
        signed: Adam follows the sign of the slope, as Geiping et al. do for deep networks, or the slope itself, which
            converges much further on small smooth ones (LeNet).
        decay: of Adam's step size: divided by 10 at 3/8, 5/8 and 7/8 of the iterations ("steps", Geiping et al.), or
            along a half cosine to zero.
        optimizer: "adam" or "lbfgs".
        precision: of the evaluations, "fp32", "tf32" or "bf16". Restarts are ranked in fp32.
    """

    name: ClassVar[str]

    iterations: int = 1000
    restarts: int = 1
    step: float = 0.1
    signed: bool = True
    decay: Decay = "steps"
    optimizer: Literal["adam", "lbfgs"] = "adam"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_counts(self.name, self, "iterations", "restarts")
        positive(self.name, self, "step")
        check_words(self, decay=DECAYS, optimizer=OPTIMIZERS, precision=PRECISIONS)

    def suits(self, domain: Domain) -> None:
        """Refuse a domain in which the value has no meaning."""
        if not domain.continuous:
            raise GradwireError(f"{self.name} follows slopes, which {domain.what} do not have; try sentences")

    def needs_pictures(self, domain: Domain, what: str, instead: str) -> None:
        """Refuse another domain than pixels for an option that is about pictures."""
        if not isinstance(domain, Pixels):
            raise GradwireError(f"{self.name}: {what} is for pictures, and these inputs are {domain.what}; {instead}")

    @abstractmethod
    def value(self, match: Match, inputs: Tensor, *extras: Tensor) -> Tensor:
        """What is minimised, shape (V,), at inputs (V, B, *shape) and the attack's other unknowns."""

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """The starting values of other unknowns, each of shape (V, …) and without bounds; none by default."""
        return ()

    def seeks_targets(self, problems: Sequence[Problem]) -> bool:
        """Whether targets are among the other unknowns, so that none need be known or inferred."""
        return False

    def targets(self, match: Match, *extras: Tensor) -> Tensor:
        """The targets of the answer, shape (V, B, …): by default those that the attack was given."""
        return match.targets

    def notes(self, match: Match) -> tuple[str, ...]:
        """Lines for the report on how the answer was found."""
        return (*match.engine.notes, *(f"{self.name} {note}" for note in match.problems[0].left_aside()))

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
        every: int = EVERY,
    ) -> Guess:
        """Attack all problems as one batch: they share a model, a mode and a shape, not a scheme.

        Args:
            seed: decides the starting noise.
            checkpoint: a file that holds the search's state. Where it exists, the search goes on from there, and ends
                as it would have without the interruption, to the last bit.
            every: iterations from one checkpoint to the next.
        """
        ready, found = self.descend(problems, seed, device, progress, checkpoint, every)
        with computing("fp32", device):
            guess = ready.answer(found.match, *found.ends[-1])
        if found.ends[-1][1:]:  # the other unknowns at the truth are not known
            return guess

        def value(inputs: Tensor) -> Tensor:
            rows = inputs.repeat_interleave(ready.restarts, 0).to(device)
            with computing("fp32", device):
                return ready.value(found.match, rows).detach()[:: ready.restarts].cpu()

        return replace(guess, value=value)

    def descend(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
        every: int = EVERY,
    ) -> tuple["Search", "SearchTrail"]:
        """The attack as it was prepared for these problems, and where each of its stages ended; see `run`."""
        domain = problems[0].view.task.domain
        self.suits(domain)
        if not all(problems[0].shares_model(problem) for problem in problems):
            raise GradwireError("problems attacked together must share a model, a mode and a shape, in every round")
        ready = self.prepared(problems, seed, device, progress)
        rows = [problem for problem in problems for _ in range(ready.restarts)]
        match = Match.of(rows, device, ready.seeks_targets(problems))
        starts = ready.starts(problems, seed).to(device)
        unknowns = _Unknowns(domain, starts, *ready.extras(match, seed))
        optimizer = ready._optimizer(unknowns.start, unknowns.box)
        stages = ready.stages()
        last = [sum(stage.iterations for stage in stages[: n + 1]) for n in range(len(stages))]

        def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
            points = points.detach().requires_grad_()
            with computing(ready.precision, device):
                inputs, *extras = unknowns.split(points)
                values = stages[len(ends)].value(match, domain.relaxed(inputs), *extras)
                (slopes,) = torch.autograd.grad(values.sum(), points)
            return values.detach(), slopes

        file = None if checkpoint is None else Checkpoint(checkpoint, f"{ready} seed={seed} of {fingerprint(problems)}")
        begun = None if file is None else file.load()
        ends: list[Tensor] = []
        if begun is not None:
            kept = begun[1]
            ends = [kept.pop(f"end {n}").to(device) for n in range(len(stages)) if f"end {n}" in kept]
            optimizer.restore(kept)
        for iteration in range(0 if begun is None else begun[0], last[-1]):
            optimizer.step(evaluate)
            if iteration + 1 == last[len(ends)]:
                ends.append(optimizer.points)
                optimizer.renew()
            if file is not None and ((iteration + 1) % every == 0 or iteration + 1 == last[-1]):
                file.save(iteration + 1, optimizer.state | {f"end {n}": end for n, end in enumerate(ends)})
            progress(ATTACKING, (iteration + 1) * len(problems), last[-1] * len(problems))
        found = [unknowns.split(end) for end in ends]
        return ready, SearchTrail(match, [[domain.relaxed(inputs), *extras] for inputs, *extras in found])

    def stages(self) -> Sequence["Search"]:
        """The searches that follow one another, each for its iterations from the last one's answer: by default one."""
        return (self,)

    def prepared(self, problems: Sequence[Problem], seed: int, device: str, progress: Progress) -> "Search":
        """The attack, fitted to these problems: by default as it is."""
        return self

    def starts(self, problems: Sequence[Problem], seed: int) -> Tensor:
        """Where each row begins, (V·restarts, B, *shape): noise, the same for all schemes of one victim."""
        return torch.stack([self._start(p, restart, seed) for p in problems for restart in range(self.restarts)])

    def answer(self, match: Match, inputs: Tensor, *extras: Tensor) -> Guess:
        """The answer, from what the rows' searches ended at: by default each victim's restart of lowest value."""
        values = self.value(match, inputs, *extras).detach()
        snapped, targets = match.problems[0].view.task.domain.snapped(inputs), self.targets(match, *extras)
        return self._best(snapped.cpu(), values.cpu(), targets.cpu(), self.notes(match))

    def _start(self, problem: Problem, restart: int, seed: int) -> Tensor:
        """Noise within the domain, or where the problem says that the first restart begins."""
        if problem.begin is not None and not restart:
            return problem.begin
        draws = generator("start", seed, problem.salt, restart)
        return problem.view.task.domain.start(problem.view.shape[0], random=draws)

    def _optimizer(self, start: Tensor, box: Box) -> Optimizer:
        if self.optimizer == "lbfgs":
            return LBFGS(start, box)
        return Adam(start, box, self.iterations, self.step, self.signed, self.decay)

    def _best(self, inputs: Tensor, values: Tensor, targets: Tensor, notes: tuple[str, ...]) -> Guess:
        """The answer: each victim's restart of lowest value."""
        lost = ~values.isfinite()
        ranked = values.masked_fill(lost, float("inf")).view(-1, self.restarts)
        rows = torch.arange(len(ranked)) * self.restarts + ranked.argmin(1)
        return Guess(inputs[rows], targets[rows], ranked.min(1).values, self.iterations, int(lost.sum()), notes)


@dataclass(frozen=True)
class SearchTrail:
    """How far a search came.

    Attributes:
        match: its rows: a victim and restart each.
        ends: of each stage, the inputs (R, B, *shape) and the attack's other unknowns with which it ended.
    """

    match: Match
    ends: Sequence[Sequence[Tensor]]


class _Unknowns:
    """Inputs and whatever else is sought, as one point (R, N) a row: inputs within their domain, the rest anywhere."""

    def __init__(self, domain: Domain, *starts: Tensor):
        self._shapes = [start.shape[1:] for start in starts]
        self.start = torch.cat([start.flatten(1) for start in starts], 1)
        self.box = Box.everywhere(self.start)
        own, like = slice(prod(self._shapes[0])), starts[0]
        for side, bound in zip((self.box.low, self.box.high), domain.bounds(), strict=True):
            side[own] = torch.as_tensor(bound, dtype=like.dtype, device=like.device).expand(self._shapes[0]).flatten()

    def split(self, points: Tensor) -> list[Tensor]:
        """The unknowns of points, each in its own shape."""
        parts = points.split([prod(shape) for shape in self._shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]
