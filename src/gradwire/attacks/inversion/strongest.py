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

from gradwire.attacks.inversion.halving import REHEARSALS
from gradwire.attacks.inversion.problem import Guess, InversionAttack, Problem, Specified
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

    def parts(self, problems: Sequence[Problem]) -> dict[str, InversionAttack]:
        """The attacks to run by name: first the one that is made for such views, whose answer counts by default."""
        first, steps = problems[0], f":iterations={self.iterations}"
        found = [f"annealed{steps}", "exact"]
        if first.view.work is not None and first.view.work.steps > 1:
            found.insert(0, f"fedavg{steps}")
        if first.later:
            found.insert(0, f"rounds{steps}")
        if first.public_examples is not None and len(first.public_examples.inputs) >= TAUGHT:
            found.append("learned")
        return {spec.partition(":")[0]: ATTACKS.parse(spec) for spec in found}

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
            watch = silent if parts else progress
            try:
                parts[name] = attack.run(problems, seed, device, watch, file)
            except GradwireError as error:
                refused[name] = error
        if not parts:
            raise next(iter(refused.values()))
        takes = [_strongest(parts, row) for row in range(len(problems))]

        def value(inputs: Tensor) -> Tensor:
            each = {name: part.value(inputs) for name, part in parts.items() if part.value is not None}
            return torch.stack([each[n][row] if n in each else torch.tensor(torch.nan) for row, n in enumerate(takes)])

        taken = [parts[name] for name in takes]
        first = next(iter(parts.values()))
        return replace(
            first,
            inputs=torch.stack([part.inputs[row] for row, part in enumerate(taken)]),
            targets=torch.stack([part.targets[row] for row, part in enumerate(taken)]),
            objective=torch.stack([part.objective[row] for row, part in enumerate(taken)]),
            lost=sum(part.lost for part in parts.values()),
            notes=(*_notes(problems, takes, refused), *(note for part in parts.values() for note in part.notes)),
            expected=tuple(part.expected[row] if part.expected else None for row, part in enumerate(taken)),
            solved=tuple(bool(part.solved) and part.solved[row] for row, part in enumerate(taken)),
            value=value,
            parts=parts,
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
