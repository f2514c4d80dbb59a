"""Everything that follows in closed form, each answer checked against what was sent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known, readable, solve
from gradwire.attacks.inversion.exact.april import April
from gradwire.attacks.inversion.exact.certificate import certify
from gradwire.attacks.inversion.exact.layers import TracedLayers
from gradwire.attacks.inversion.exact.replay import Answer, Replay
from gradwire.attacks.inversion.exact.spear import Spear
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.row_choice import EXPLAINED
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent
from gradwire.seeds import generator
from gradwire.wire import View


class ClosedForm(Protocol):
    """One closed form, for a network that it fits."""

    name: ClassVar[str]

    def inputs(self, problem: Problem, random: torch.Generator) -> tuple[Tensor, str]:
        """Inputs (B, *shape) of a victim, and how far they are determined, in words; GradwireError if they are not."""


@dataclass(frozen=True)
class Rows:
    """The rows of a first linear layer, as `analytic` reads them."""

    name: ClassVar[str] = "analytic"

    layer: FirstLayer

    @classmethod
    def of(cls, view: View) -> "Rows":
        """For a view's network; GradwireError where it begins with another layer."""
        return cls(FirstLayer.of(view.model, view.task, view.mode, view.shape))

    def inputs(self, problem: Problem, random: torch.Generator) -> tuple[Tensor, str]:
        """See `analytic.solve`."""
        known, as_sent = readable(problem, self.layer)
        found = solve(problem, self.layer, *known)
        if found is None:
            raise GradwireError("analytic finds no row with a slope")
        return found[0], "rows were sent as they are" if as_sent else "what was sent was decoded"


@dataclass(frozen=True)
class Exact(Specified):
    """Solve for the inputs in every way that fits the network and what was sent, and say which answers are proved.

    Attributes:
        rounds: of SPEAR's search for sparse directions, at most.
    """

    name: ClassVar[str] = "exact"

    rounds: int = 60

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise GradwireError(f"exact: rounds is {self.rounds}; it must be at least 1")

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
            network again; a victim is solved where that is rounding.

        Raises:
            GradwireError: no closed form fits the network.
        """
        view = problems[0].view
        forms, reasons = self._forms(view)
        if not forms:
            raise GradwireError(f"exact knows no closed form for this network: {'; '.join(reasons)}")
        layer = next((form.layer for form in forms if isinstance(form, Rows)), None)
        replay = Replay(problems, layer, device)
        solved_by: Counter[str] = Counter()
        notes: Counter[str] = Counter()
        answers: list[Answer] = []
        for number, problem in enumerate(problems):
            random = generator("exact", seed, problem.salt)
            answer, name, why = _best(forms, replay, number, random)
            answers.append(answer)
            solved_by.update([name] if name else [])
            notes.update([] if name else why)
            progress(ATTACKING, number + 1, len(problems))
        lines = [f"exact: {name} solved {count} of {len(problems)} victims" for name, count in solved_by.items()]
        lines += [f"exact did not solve {count} of {len(problems)} victims: {note}" for note, count in notes.items()]
        lines += [f"exact {note}" for note in problems[0].left_aside()]
        traced = TracedLayers.of(view)
        sentences = {each.view.scheme: certify(each, traced).sentence for each in problems}
        lines += [f"{scheme}: {sentence}" for scheme, sentence in sentences.items()]
        return _guess(answers, tuple(lines))

    def _forms(self, view: View) -> tuple[list[ClosedForm], list[str]]:
        """The closed forms that fit a network, and why the others do not."""
        if not view.task.domain.continuous:
            return [], [f"it solves for numbers; {view.task.domain.what} hold none; try dager"]
        forms: list[ClosedForm] = []
        reasons: dict[str, None] = {}
        for make in (Rows.of, self._spear, April.of):
            try:
                forms.append(make(view))
            except GradwireError as error:
                reasons[str(error)] = None
        return forms, list(reasons)

    def _spear(self, view: View) -> Spear:
        return Spear(Spear.of(view).layer, self.rounds)


def _best(
    forms: Sequence[ClosedForm], replay: Replay, number: int, random: torch.Generator
) -> tuple[Answer, str, list[str]]:
    """The first answer that explains what was sent, and the form that gave it; else the nearest, and what was wrong."""
    problem, why = replay.problems[number], list[str]()
    domain, batch = problem.view.task.domain, problem.view.shape[0]
    best = Answer(nothing_known(domain, batch), problem.targets.cpu(), torch.inf)
    for form in forms:
        try:
            inputs, told = form.inputs(problem, random)
        except GradwireError as error:
            why.append(str(error))
            continue
        try:
            answer = replay.answer(number, inputs)
        except GradwireError as error:
            answer = Answer(domain.snapped(inputs.float()), problem.targets.cpu(), torch.inf)
            told = f"{told}; it cannot be checked: {error}"
        if answer.off <= EXPLAINED:
            return answer, form.name, []
        why.append(f"{form.name} does not explain what was sent: {told}")
        best = answer if answer.off < best.off or torch.equal(best.inputs, nothing_known(domain, batch)) else best
    return best, "", why


def _guess(answers: Sequence[Answer], notes: tuple[str, ...]) -> Guess:
    inputs, targets = (torch.stack([getattr(each, name) for each in answers]) for name in ("inputs", "targets"))
    objective = torch.tensor([each.off for each in answers])
    solved = tuple(each.off <= EXPLAINED for each in answers)
    return Guess(inputs, targets, objective, 1, 0, notes, solved)
