"""The strongest against pictures: what follows exactly, what a search finds, what a network has learned.

Each part answers every problem. Which answer counts is decided without the truth: one that is proved by what was sent,
else that of the part which does best on the adversary's own images under the same scheme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.annealed.halving import REHEARSALS, promised
from gradwire.attacks.inversion.learned import Learned
from gradwire.attacks.inversion.learned.annealed import AnnealedFromLearned
from gradwire.attacks.inversion.problem import Guess, InversionAttack, Problem, PublicExamples, Specified
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent
from gradwire.registry import ATTACKS

TAUGHT = 500
"""Images of the adversary's own from which a network is trained on them."""


@dataclass(frozen=True)
class Strongest(Specified):
    """Run every part that applies, and take each victim's answer from the part that promises most.

    Attributes:
        iterations: of `annealed`.
    """

    name: ClassVar[str] = "strongest"
    rehearsals: ClassVar[int] = REHEARSALS

    iterations: int = 300

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack all problems by each part.

        Returns:
            the answers that count, with those of every part in `parts`.

        Raises:
            GradwireError: no part applies; it is the first part's reason.
        """
        parts: dict[str, Guess] = {}
        refused: dict[str, GradwireError] = {}
        for name, attack in self.parts(problems).items():
            file = checkpoint and checkpoint.with_name(f"{checkpoint.name}.{name}")
            try:
                parts[name] = attack.run(problems, seed, device, silent if parts else progress, file)
            except GradwireError as error:
                refused[name] = error
        if not parts:
            raise next(iter(refused.values()))
        own = problems[0].public_examples
        if own is not None and len(own.inputs) >= TAUGHT:
            try:
                parts |= self.taught(problems, own, seed, device, progress)
            except GradwireError as error:
                refused[Learned.name] = error
        takes = [_strongest(parts, row) for row in range(len(problems))]
        return _joined(parts, takes, _notes(problems, takes, refused))

    def parts(self, problems: Sequence[Problem]) -> dict[str, InversionAttack]:
        """The attacks to run by name: first the one that is made for such views, whose answer counts by default."""
        first, found = problems[0], ["annealed", "exact"]
        if first.view.work is not None and first.view.work.steps > 1:
            found.insert(0, "fedavg")
        if first.later:
            found.insert(0, "rounds")
        options = {name: {} if name == "exact" else {"iterations": self.iterations} for name in found}
        return {name: ATTACKS.parse(name, **given) for name, given in options.items()}

    def taught(
        self, problems: Sequence[Problem], own: PublicExamples, seed: int, device: str, progress: Progress
    ) -> dict[str, Guess]:
        """The answers of a network that is trained on its own images, and of a search that begins there.

        Those that are rehearsed on take no part in the training.
        """
        view = problems[0].view
        kept = REHEARSALS * len(view.clients) * (view.shape[0] // len(problems[0].clients))
        rest = replace(own, inputs=own.inputs[kept:], targets=own.targets[kept:])
        learned = Learned().trained([replace(each, public_examples=rest) for each in problems], seed, device, progress)
        answer = learned.run(problems, seed, device)
        search = AnnealedFromLearned(iterations=self.iterations, learned=learned)
        return {
            Learned.name: replace(answer, expected=tuple(promised(learned, problems, seed, device))),
            search.name: search.run(problems, seed, device),
        }


def _joined(parts: Mapping[str, Guess], takes: Sequence[str], notes: Sequence[str]) -> Guess:
    """The answers of the parts that count, one a problem."""

    def value(inputs: Tensor) -> Tensor:
        each = {name: part.value(inputs) for name, part in parts.items() if part.value is not None}
        return torch.stack([each[n][row] if n in each else torch.tensor(torch.nan) for row, n in enumerate(takes)])

    taken = [parts[name] for name in takes]
    inputs, targets, objective = (
        torch.stack([getattr(part, name)[row] for row, part in enumerate(taken)])
        for name in ("inputs", "targets", "objective")
    )
    return Guess(
        inputs,
        targets,
        objective,
        sum(part.iterations for part in parts.values()),
        sum(part.lost for part in parts.values()),
        tuple(dict.fromkeys((*notes, *(note for part in parts.values() for note in part.notes)))),
        expected=tuple(part.expected[row] if part.expected else None for row, part in enumerate(taken)),
        solved=tuple(bool(part.solved) and part.solved[row] for row, part in enumerate(taken)),
        parts=parts,
        value=value,
    )


def _strongest(parts: Mapping[str, Guess], row: int) -> str:
    """The part whose answer to a problem counts."""
    for name, part in parts.items():
        if part.solved and part.solved[row]:
            return name
    promised = {name: part.expected[row] for name, part in parts.items() if part.expected}
    known = {name: score for name, score in promised.items() if score is not None}
    usual = next(iter(parts))
    return max(known, key=known.__getitem__) if usual in known else usual


def _notes(problems: Sequence[Problem], takes: Sequence[str], refused: Mapping[str, GradwireError]) -> list[str]:
    """Which part counts under which scheme, and why others did not run."""
    counts: dict[tuple[str, str, str], int] = {}
    for problem, name in zip(problems, takes, strict=True):
        key = (problem.view.scheme, problem.knowledge, name)
        counts[key] = counts.get(key, 0) + 1
    taken = [f"strongest, {s}, {k}: the answer of {name} for {count}" for (s, k, name), count in counts.items()]
    return taken + [f"strongest goes without {name}: {error}" for name, error in refused.items()]
