"""Annealed inversion: a search whose way down is chosen on the adversary's own images, scheme by scheme.

No one optimiser and prior is best for every network and scheme. An adversary who has images of its own runs rounds
whose answer it knows, takes the path that recovers most of them, and stops where they are best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.annealed.halving import REHEARSALS, Case, CaseRehearsals, case, halved
from gradwire.attacks.inversion.annealed.paths import PATHS, Path, path_of, suited
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.search import Search
from gradwire.errors import check_counts, not_negative, unknown
from gradwire.progress import Progress, silent

LEAST = 24
"""Iterations that a path's stages and its rehearsals need."""


@dataclass(frozen=True)
class Annealed(Specified):
    """Search along a path of falling total variation, and stop where images of the adversary's own came out best.

    Attributes:
        iterations: evaluations of the objective and its slope.
        path: of `PATHS`; empty: chosen by rehearsals, and the first that suits what was sent without any.
        bn: the weight of batch-norm statistics, as of `iga`.
    """

    name: ClassVar[str] = "annealed"
    rehearsals: ClassVar[int] = REHEARSALS

    iterations: int = 300
    path: str = ""
    bn: float = 0.0

    def __post_init__(self) -> None:
        check_counts("annealed", self, "iterations", least=LEAST)
        if self.path and self.path not in PATHS:
            raise unknown("path", self.path, PATHS)
        not_negative(self.name, self, "bn")

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: File | None = None,
    ) -> Guess:
        """Attack all problems, those of one path as one batch.

        Args:
            checkpoint: as of `Search`; rehearsals are run again before the search goes on.
        """
        problems = self.begun(problems)
        cases = halved(problems, self.suited, self.begun, seed, device, progress)
        taken = [(cases[case(p)].paths if case(p) in cases else self.suited(p))[0] for p in problems]
        batches: list[Batch] = []
        for number, path in enumerate(dict.fromkeys(taken)):
            rows = tuple(row for row, each in enumerate(taken) if each == path)
            own = {key: found for key, found in cases.items() if found.paths == (path,)}
            done, total = (count * self.iterations for count in (sum(len(b.rows) for b in batches), len(problems)))
            watch = _watch(progress, done, total, len(rows) * self.iterations)
            file = checkpoint and checkpoint.with_name(f"{checkpoint.name}.{number}")
            batches.append(_follow(path, rows, problems, own, seed, device, watch, file))

        def value(inputs: Tensor) -> Tensor:
            return _gathered([(batch.rows, batch.value(inputs[list(batch.rows)].to(device))) for batch in batches])

        inputs = _gathered([(batch.rows, batch.inputs) for batch in batches])
        expected = {key: score for batch in batches for key, score in batch.expected.items()}
        return Guess(
            inputs,
            torch.stack([problem.targets.cpu() for problem in problems]),
            value(inputs),
            self.iterations,
            int((~inputs.isfinite()).flatten(1).any(1).sum()),
            tuple(dict.fromkeys((*batches[0].match.engine.notes, *_notes(self.name, problems, batches)))),
            expected=tuple(expected.get(case(problem)) for problem in problems),
            value=value,
        )

    def begun(self, problems: Sequence[Problem]) -> Sequence[Problem]:
        """The problems, with what is known of where to begin: nothing."""
        return problems

    def suited(self, problem: Problem) -> tuple[Path, ...]:
        """The paths to choose among, the usual one first."""
        if self.path:
            return (path_of(self.path, self.iterations, self.bn),)
        return suited(problem, self.iterations, self.bn)


@dataclass(frozen=True)
class Batch:
    """The problems that took one path.

    Attributes:
        path: its name.
        rows: the problems' numbers.
        inputs: the answers, (R, B, *shape).
        searches: whose value is least there, one a row.
        stops: each case's stage whose end is the answer; `expected`: the mean score of the adversary's own there.
    """

    path: str
    rows: tuple[int, ...]
    inputs: Tensor
    searches: tuple[Search, ...]
    match: Match
    stops: Mapping[Case, int]
    expected: Mapping[Case, float]

    def value(self, inputs: Tensor) -> Tensor:
        """What each row's search minimised, at other inputs (R, B, *shape); shape (R,)."""
        found = torch.empty(len(inputs))
        for search in dict.fromkeys(self.searches):
            mine = torch.tensor([each == search for each in self.searches])
            found[mine] = search.value(self.match, inputs).detach().cpu().to(found)[mine]
        return found


def _follow(
    path: Path,
    rows: tuple[int, ...],
    problems: Sequence[Problem],
    own: Mapping[Case, CaseRehearsals],
    seed: int,
    device: str,
    progress: Progress,
    checkpoint: File | None,
) -> Batch:
    """Search along a path for some of the problems, `rows`, and for the rehearsals that chose it, as one batch."""
    mine = [problems[row] for row in rows]
    rehearsed = [problem for found in own.values() for problem in found.problems]
    _, found = path.descend(mine + rehearsed, seed, device, progress, checkpoint)
    ends, stages = [end[0] for end in found.ends], path.stages()
    stops, expected = dict[Case, int](), dict[Case, float]()
    for at, (key, rehearsal) in enumerate(own.items()):
        first = len(rows) + at * REHEARSALS
        scores = [rehearsal.score(end[first : first + REHEARSALS]) for end in ends]
        stops[key], expected[key] = max(range(len(ends)), key=scores.__getitem__), max(scores)
    stopped = [stops.get(case(problem), len(ends) - 1) for problem in mine]
    inputs = torch.stack([ends[stop][n] for n, stop in enumerate(stopped)])
    snapped = problems[0].view.task.domain.snapped(inputs).cpu()
    match = found.match.select(range(len(rows)))
    return Batch(path.called, rows, snapped, tuple(stages[stop] for stop in stopped), match, stops, expected)


def _notes(name: str, problems: Sequence[Problem], batches: Sequence[Batch]) -> list[str]:
    """Lines for the report: which path was taken under which scheme, how far, and by what it was chosen."""
    own, notes = problems[0].public_examples, [f"{name} {note}" for note in problems[0].left_aside()]
    taken = {case(problems[row]): batch for batch in batches for row in batch.rows}
    for key, batch in taken.items():
        way = f"{name}, {key[0]}, {key[1]}: path {batch.path!r}"
        if own is None:
            notes.append(f"{way} to its end; there were no images of its own to rehearse with")
        elif key not in batch.stops:
            notes.append(f"{way} to its end; what a client sends under this scheme cannot be rehearsed")
        else:
            stages = len(PATHS[batch.path].weights)
            notes.append(f"{way} to stage {batch.stops[key] + 1} of {stages}, as for {REHEARSALS} of {own.source}")
    return notes


def _gathered(parts: Sequence[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """The rows of several parts, each with its rows' numbers, in the order of the numbers."""
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    return torch.cat([values for _, values in parts])[order]


def _watch(progress: Progress, done: int, total: int, own: int) -> Progress:
    """The progress of one of several batches, which counts rehearsals among its rows."""

    def report(stage: str, now: int, of: int) -> None:
        progress(stage, done + own * now // of if stage == ATTACKING else now, total if stage == ATTACKING else of)

    return report
