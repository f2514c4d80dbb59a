"""Everything that follows in closed form, each answer checked against what was sent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from gradwire.attacks.inversion.analytic import nothing_known
from gradwire.attacks.inversion.exact.april import April
from gradwire.attacks.inversion.exact.certificate import certificates
from gradwire.attacks.inversion.exact.closed_form import AnalyticRows, ClosedForm
from gradwire.attacks.inversion.exact.replay import CheckedAnswer, Replay
from gradwire.attacks.inversion.exact.rgap import Rgap
from gradwire.attacks.inversion.exact.spear import Spear
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.row_choice import EXPLAINED
from gradwire.errors import GradwireError, check_counts
from gradwire.progress import Progress, silent
from gradwire.seeds import generator
from gradwire.wire import View


@dataclass(frozen=True)
class Exact(Specified):
    """Solve for the inputs in every way that fits the network and what was sent, and say which answers are proved.

    Attributes:
        rounds: of SPEAR's search for sparse directions, at most.
    """

    name: ClassVar[str] = "exact"

    rounds: int = 60

    def __post_init__(self) -> None:
        check_counts(self.name, self, "rounds")

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems one by one; no checkpoint is written.

        Returns:
            inputs within the domain, and targets, which follow from the slopes where they were not known. The
            objective is the share of what was sent that the answer leaves unexplained when it is sent through the
            network again. A victim is solved where that is rounding and the closed form determines each number.

        Raises:
            GradwireError: no closed form fits the network.
        """
        view = problems[0].view
        forms, reasons = self._forms(view)
        if not forms:
            raise GradwireError(f"exact knows no closed form for this network: {'; '.join(reasons)}")
        layer = next((form.layer for form in forms if isinstance(form, AnalyticRows)), None)
        replay = Replay(problems, layer, device)
        solved_by: Counter[str] = Counter()
        notes: Counter[str] = Counter()
        answers: list[CheckedAnswer] = []
        solved: list[bool] = []
        for number, problem in enumerate(problems):
            answer, name, why = _first(forms, replay, number, generator("exact", seed, problem.salt))
            answers.append(answer)
            solved.append(bool(name))
            solved_by.update([name] if name else [])
            notes.update([] if name else why)
            progress(ATTACKING, number + 1, len(problems))
        lines = [f"exact: {name} solved {count} of {len(problems)} victims" for name, count in solved_by.items()]
        lines += [f"exact did not solve {count} of {len(problems)} victims: {note}" for note, count in notes.items()]
        lines += [f"exact {note}" for note in problems[0].left_aside()]
        lines += certificates(problems, {})
        inputs, targets = (torch.stack([getattr(each, part) for each in answers]) for part in ("inputs", "targets"))
        objective = torch.tensor([each.off for each in answers])
        return Guess(inputs, targets, objective, 1, 0, tuple(lines), solved=tuple(solved))

    def _forms(self, view: View) -> tuple[list[ClosedForm], list[str]]:
        """The closed forms that fit a network, and why the others do not."""
        if not view.task.domain.continuous:
            return [], [f"it solves for numbers; {view.task.domain.what} hold none; try dager"]
        forms: list[ClosedForm] = []
        reasons: dict[str, None] = {}
        for make in (AnalyticRows.of, partial(Spear.of, rounds=self.rounds), April.of, Rgap.of):
            try:
                forms.append(make(view))
            except GradwireError as error:
                reasons[str(error)] = None
        return forms, list(reasons)


def _first(
    forms: Sequence[ClosedForm], replay: Replay, number: int, random: torch.Generator
) -> tuple[CheckedAnswer, str, list[str]]:
    """The first answer that is proved, and the form that gave it; else the nearest, "", and what was wrong."""
    problem, why = replay.problems[number], list[str]()
    domain, batch = problem.view.task.domain, problem.view.shape[0]
    best: CheckedAnswer | None = None
    for form in forms:
        try:
            found = form.solution(problem, random)
        except GradwireError as error:
            why.append(str(error))
            continue
        told = found.told
        try:
            answer = replay.answer(number, found.inputs)
        except GradwireError as error:
            answer = CheckedAnswer(domain.snapped(found.inputs.float()), problem.targets.cpu(), torch.inf)
            told = f"{told}; it cannot be checked: {error}"
        if answer.off <= EXPLAINED and found.determined:
            return answer, form.name, []
        explains = (
            "explains what was sent, as others would" if answer.off <= EXPLAINED else "does not explain what was sent"
        )
        why.append(f"{form.name} {explains}: {told}")
        best = answer if best is None or answer.off < best.off else best
    unknown = CheckedAnswer(nothing_known(domain, batch), problem.targets.cpu(), torch.inf)
    return best or unknown, "", why
