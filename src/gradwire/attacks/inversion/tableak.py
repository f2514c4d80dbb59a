"""Rows of tables: solved for where their gradient determines them, sought over their fields' domains elsewhere.

M. Vero, M. Balunović, D. I. Dimitrov, M. Vechev, "TabLeak: Tabular data leakage in federated learning", ICML 2023: the
softmax over each category's values, and restarts that are matched and pooled, field by field, whose agreement tells how
sure a guess is. Three things differ. Rows that follow exactly from the first layer are solved for (`analytic`,
`rows_in_span`). The distance of gradients is minimised by its logarithm, whose slope does not fade as the search comes
near. The answer's fields are changed one by one as long as that brings its gradient nearer (`improved`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import readable, solve
from gradwire.attacks.inversion.fields import improved, pooled
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.match import Match, cosine
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem
from gradwire.attacks.inversion.row_choice import EXPLAINED, ChosenRows, chosen
from gradwire.attacks.inversion.row_span import rows_in_span
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError, not_negative
from gradwire.progress import Progress, silent
from gradwire.schemes.measurement import Term
from gradwire.seeds import generator
from gradwire.tasks import Columns, Domain

LEAST = 1e-7
"""Is added to the distance before its logarithm: a gradient in float32 comes no nearer."""
SPREAD = 0.3
"""The standard deviation of the points at which a search begins: little, so that categories begin nearly even."""
SURE = 3.0
"""The logit at which a search begins of a category that is known from elsewhere."""


@dataclass(frozen=True)
class TabLeak(Search):
    """Minimise log(‖A(∇L(x, y)) − sent‖² / ‖sent‖²) over numbers within their range and softmaxes over categories.

    The paper's cosine distance takes its place for an adversary who does not know the scheme, as decoding changes
    lengths. So it does where no values were sent (but signs or quantisation cells), and the share of the gradient that
    contradicts these is added. Entries that Top-K left out count by what they exceed the least one sent (`Unsent`).

    Attributes:
        changes: how often a field of the answer is changed, at most, to bring its gradient nearer to what was sent.
        exact: whether to solve for rows before anything is sought.
    """

    name: ClassVar[str] = "tableak"

    iterations: int = 800
    restarts: int = 4
    step: float = 0.15
    signed: bool = False
    decay: Literal["steps", "cosine"] = "cosine"
    changes: int = 24
    exact: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self.name, self, "changes")

    def value(self, match: Match, inputs: Tensor, *extras: Tensor) -> Tensor:
        """The logarithm of the distance, and of what entries that Top-K left out are too large by."""
        gradients, stack = match.gradients(inputs), match.stack
        rough = tuple(float(_rough(problem)) for problem in match.problems)
        value = torch.zeros_like(stack.energy)
        if not all(rough):
            value = stack.distance(gradients) / stack.energy.clamp_min(torch.finfo(value.dtype).tiny)
        if any(rough):
            broken = cosine(*stack.moments(gradients), stack.energy) + stack.violation(gradients)
            value = torch.where(match.numbers(rough) > 0, broken, value)
        return (value + match.unsent.excess(gradients, stack.energy) + LEAST).log()

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
        every: int = 100,
    ) -> Guess:
        """Solve for what can be solved for, and seek the rest as one batch; see `Search.run`.

        Raises:
            GradwireError: inputs that are no rows of numbers.
        """
        domain = problems[0].view.task.domain
        if not domain.continuous or len(domain.shape) != 1:
            raise GradwireError(f"tableak seeks rows of tables; these inputs are {domain.what}: try iga")
        solved = self._solved(problems)
        rest = [n for n, found in enumerate(solved) if found is None or found.off > EXPLAINED]
        notes = []
        if len(rest) < len(problems):
            off = max(found.off for n, found in enumerate(solved) if found is not None and n not in rest)
            victims = f"{len(problems) - len(rest)} of {len(problems)} victims"
            notes.append(
                f"tableak solved for the rows of {victims}, which explain what was sent but for {off:.1g} of it"
            )
        shape = (len(problems), problems[0].view.shape[0], *domain.shape)
        inputs, objective = torch.zeros(shape), torch.full(shape[:1], -torch.inf)
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        for n, found in enumerate(solved):
            if found is not None and n not in rest:
                inputs[n], objective[n] = found.rows.float(), torch.tensor(found.off + LEAST).log()
        iterations = lost = 0
        if rest:
            begun = tuple(None if (found := solved[n]) is None else found.rows.float() for n in rest)
            sought = PreparedTabLeak(**vars(self), begun=begun)
            guess = Search.run(sought, [problems[n] for n in rest], seed, device, progress, checkpoint, every)
            inputs[rest], objective[rest], targets[rest] = guess.inputs, guess.objective, guess.targets
            iterations, lost = guess.iterations, guess.lost
            notes += [f"tableak sought the rows of {len(rest)} of {len(problems)} victims", *guess.notes]
        else:
            progress(ATTACKING, len(problems), len(problems))
        return Guess(inputs, targets, objective, iterations, lost, tuple(notes))

    def _solved(self, problems: Sequence[Problem]) -> "list[ChosenRows | None]":
        """For each problem the rows that its first layer's gradient gives, and how much of what was sent they leave."""
        view = problems[0].view
        try:
            layer = FirstLayer.of(view.model, view.task, view.mode, view.shape) if self.exact else None
        except GradwireError:
            layer = None
        return [None if layer is None else _closed_form(problem, layer) for problem in problems]


@dataclass(frozen=True)
class PreparedTabLeak(TabLeak):
    """TabLeak's search alone.

    Attributes:
        begun: for each problem rows (B, F) at which its first restart begins, or None.
    """

    begun: tuple[Tensor | None, ...] = field(default=(), repr=False)

    def starts(self, problems: Sequence[Problem], seed: int) -> Tensor:
        """Noise, the same for all schemes of one victim; the first restart begins at what was solved for."""
        found = []
        for problem, begun in zip(problems, self.begun, strict=True):
            for restart in range(self.restarts):
                draws = generator("start", seed, problem.salt, restart)
                domain = problem.view.task.domain
                start = SPREAD * domain.start(problem.view.shape[0], random=draws)
                found.append(start if begun is None or restart else _logits(begun, domain))
        return torch.stack(found)

    def answer(self, match: Match, inputs: Tensor, *extras: Tensor) -> Guess:
        """The best of all restarts and of what they have in common, its fields changed where that brings it nearer."""
        domain, victims = match.problems[0].view.task.domain, len(match.problems) // self.restarts
        values = self.value(match, inputs).detach()
        each = inputs.detach().unflatten(0, (victims, self.restarts))
        candidates, agreement = [domain.snapped(each)], 1.0
        if isinstance(domain, Columns) and self.restarts > 1:
            together = [pooled(rows, value, domain) for rows, value in zip(each, values.view(victims, -1), strict=True)]
            candidates.append(torch.stack([rows for rows, _ in together])[:, None])
            agreement = sum(share for _, share in together) / victims
        found = torch.cat(candidates, 1)
        rows = [n * self.restarts for n in range(victims) for _ in range(found.shape[1])]
        ranked = self.value(match.select(rows), found.flatten(0, 1)).detach().view(victims, -1)
        best = ranked.masked_fill(~ranked.isfinite(), torch.inf).argmin(1)
        single = match.select([n * self.restarts for n in range(victims)])
        answer = improved(self.value, single, found[torch.arange(victims), best], self.changes)
        objective = self.value(single, answer).detach()
        notes = list(self.notes(match))
        if len(candidates) > 1:
            notes.append(f"tableak's restarts agree on {agreement:.0%} of the fields")
        lost = int((~values.isfinite()).sum())
        return Guess(answer.cpu(), single.targets.cpu(), objective.cpu(), self.iterations, lost, tuple(notes))


def _closed_form(problem: Problem, layer: FirstLayer) -> ChosenRows | None:
    """The rows that the first layer's gradient gives, beside their targets; None where it gives none."""
    known, as_sent = readable(problem, layer)
    domain, batch = problem.view.task.domain, problem.view.shape[0]
    weight, bias = known
    rows = None
    if isinstance(domain, Columns) and weight.known.all() and bias.known.all() and batch > 1 and as_sent:
        rows = rows_in_span(layer.seen(weight.values, bias.values), bias.values, domain, batch)
    if rows is None:
        found = solve(problem, layer, weight, bias)
        rows = None if found is None else found[0]
    return None if rows is None else chosen(problem, domain.snapped(rows.float()))


def _rough(problem: Problem) -> bool:
    """Whether the length of the gradient is not known: by signs, by cells, or to the naive adversary."""
    terms = (term for several in problem.measurement.values() for term in several)
    return problem.knowledge == "naive" or any(type(term).violation is not Term.violation for term in terms)


def _logits(rows: Tensor, domain: Domain) -> Tensor:
    """Points whose relaxation is near to rows (B, F)."""
    points = rows.clone()
    if isinstance(domain, Columns):
        points[:, len(domain.numbers) :] *= SURE
    return points
