"""The search that begins where the learned inverter ends.

A search from noise often ends in a bad valley, and the inverter gives no more than the components that it knows. From
its answer a search goes on to what was sent. Per victim, whichever ends lowest counts: the search from there, the one
from noise, or the inverter's answer as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.learned.attack import Learned
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem
from gradwire.attacks.inversion.search import EVERY, Search
from gradwire.progress import Progress, silent

NAMES = ("a search from noise", "a search from the learned answer", "the learned answer itself")


def learned_starts(
    problems: Sequence[Problem],
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    learned: Learned | None = None,
) -> Tensor:
    """Where a search may begin: the learned inverter's answers, (V, B, *shape), on the CPU.

    Args:
        learned: the attack that gives them, trained or not; by default with its usual hyper-parameters.

    Raises:
        GradwireError: as `Learned.run`, such as where the adversary has no examples of its own.
    """
    return _learned(problems, seed, device, progress, learned).inputs


def start_from_learned(
    search: Search,
    problems: Sequence[Problem],
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    checkpoint: Path | None = None,
    learned: Learned | None = None,
) -> Guess:
    """A search's answer where it may begin at the learned inverter's: per victim the lowest of three values.

    All three are values of what the search minimises, so that nothing but what was sent, and its prior, decides.
    """
    answer = _learned(problems, seed, device, progress, learned)
    starts = answer.inputs
    kept = [
        None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{k}") for k in ("noise", "learned")
    ]
    noise = search.run(problems, seed, device, _half(progress, 0), kept[0])
    begun = [replace(problem, begin=start) for problem, start in zip(problems, starts, strict=True)]
    warm = search.run(begun, seed, device, _half(progress, 1), kept[1])
    itself = _valued(search, problems, starts, seed, device, progress)
    ended = torch.stack([noise.objective, warm.objective, itself])
    best = ended.argmin(0)
    rows = torch.arange(len(problems))
    inputs = torch.stack([noise.inputs, warm.inputs, starts.to(noise.inputs)])[best, rows]
    targets = torch.stack([noise.targets, warm.targets, warm.targets])[best, rows]
    counts = ", ".join(f"{int((best == row).sum())} by {name}" for row, name in enumerate(NAMES))
    note = f"of {len(problems)} answers, {counts}"
    values, iterations = ended.min(0).values, noise.iterations + warm.iterations
    notes = tuple(dict.fromkeys((*answer.notes, *warm.notes, note)))
    return Guess(inputs, targets, values, iterations, noise.lost + warm.lost, notes)


def _learned(problems: Sequence[Problem], seed: int, device: str, progress: Progress, learned: Learned | None) -> Guess:
    """The inverter's answer; the stage of attacking is left to the search that follows."""

    def before(stage: str, done: int, total: int) -> None:
        if stage != ATTACKING:
            progress(stage, done, total)

    return (learned or Learned()).run(problems, seed, device, before)


def _half(progress: Progress, number: int) -> Progress:
    """The progress of the first or the second of two searches, which count as one."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, (number * total + done) // 2 if stage == ATTACKING else done, total)

    return report


def _valued(
    search: Search, problems: Sequence[Problem], inputs: Tensor, seed: int, device: str, progress: Progress
) -> Tensor:
    """What a search minimises, at inputs (V, B, *shape); shape (V,), infinite where it is not finite."""
    ready = search.prepared(problems, seed, device, progress)
    match = Match.of([problem for problem in problems for _ in range(ready.restarts)], device)
    rows = inputs.repeat_interleave(ready.restarts, 0).to(device)
    values = ready.value(match, rows, *ready.extras(match, seed)).detach().cpu()
    return values[:: ready.restarts].nan_to_num(nan=torch.inf)


@dataclass(frozen=True)
class FromLearned(IGA):
    """`iga` that begins where the learned inverter ends; the inverter is trained with its usual hyper-parameters."""

    name: ClassVar[str] = "from-learned"

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
        every: int = EVERY,
    ) -> Guess:
        """See `start_from_learned`."""
        return start_from_learned(IGA(**vars(self)), problems, seed, device, progress, checkpoint)
