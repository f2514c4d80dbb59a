"""Whole sentences: the tokens of a batch, a first order from positions' rows, and a search judged by what was sent.

The tokens are those that `tokens` finds. A token's row of the embedding has the gradient of its position's row, which
gives a first order wherever entries were sent. It is improved by a search over orders, each judged by its own
measured gradient, row by row and term by term relative to what was sent; the decoded update of a naive adversary is
judged in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.text.candidates import Candidates
from gradwire.attacks.inversion.text.embedding import Embeddings, LookupTable, text_domain, trace
from gradwire.attacks.inversion.text.evidence import Evidence, evidence
from gradwire.attacks.inversion.text.order_search import EXPLAINED, Open, search
from gradwire.attacks.inversion.text.rows import read
from gradwire.attacks.inversion.text.start import framed, likely
from gradwire.attacks.inversion.text.tokens import dealt, pooled_note
from gradwire.errors import GradwireError, at_least
from gradwire.progress import Progress, silent
from gradwire.schemes.measurement import Cells
from gradwire.seeds import generator


@dataclass(frozen=True)
class Sentences(Specified):
    """Put the tokens of each batch in order.

    Attributes:
        evaluations: candidates whose gradients are computed at most, a victim.
        distinct: as of `tokens`.
    """

    name: ClassVar[str] = "sentences"

    evaluations: int = 10_000
    distinct: int = 0

    def __post_init__(self) -> None:
        at_least(1, evaluations=self.evaluations)
        at_least(0, distinct=self.distinct)

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
            the sentences, padding behind them. The objective is the strain (`strain`) of the answer, zero where it
            explains all that was sent, and infinite where no token was found.

        Raises:
            GradwireError: the inputs are no text, or no embedding of tokens or of positions is on the wire.
        """
        view = problems[0].view
        text_domain(view.task, self.name)
        embeddings = trace(view.model, view.task)
        positions = _positions(embeddings, self.name)
        inputs, objective, notes = [], torch.full((len(problems),), torch.inf), []
        spent = 0
        for number, problem in enumerate(problems):
            found = evidence(problem, embeddings, self.name, self.distinct, seed)
            done = number * self.evaluations
            told = partial(self._report, progress, done, len(problems) * self.evaluations)
            guess, value, used, said = self._solve(problem, embeddings, positions, found, seed, device, told)
            inputs.append(guess)
            objective[number], spent = value, max(spent, used)
            notes += [*found.notes, *said, *pooled_note(problem)]
            told(self.evaluations)
        explained = int((objective <= EXPLAINED).sum())
        notes.insert(0, f"sentences: {explained} of {len(problems)} answers explain all that was sent")
        notes += [f"{self.name} {note}" for note in problems[0].left_aside()]
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        lost = int(objective.isinf().sum())
        return Guess(torch.stack(inputs), targets, objective, spent, lost, tuple(dict.fromkeys(notes)))

    @staticmethod
    def _report(progress: Progress, done: int, total: int, spent: int) -> None:
        progress(ATTACKING, min(total, done + spent), total)

    def _solve(
        self,
        problem: Problem,
        embeddings: Embeddings,
        positions: LookupTable,
        found: Evidence,
        seed: int,
        device: str,
        told: Callable[[int], None],
    ) -> tuple[Tensor, float, int, tuple[str, ...]]:
        """One victim's sentences (B, L), their strain, the evaluations spent, and notes."""
        view, (batch, most) = problem.view, problem.view.shape
        domain = text_domain(view.task, self.name)
        words = found.tokens.sort().values
        shape = view.model.get_parameter(positions.parameter).shape
        rows = read(problem.measurement.get(positions.parameter, ()), (shape[0], shape[1]), problem.deviation)
        if not len(words):
            return dealt(words, view.shape, domain), float("inf"), 0, ("nothing was sent of any token",)
        # The last token of a sentence is no input of a network that predicts the next one.
        behind = int(view.task.loss.from_inputs)
        framing = torch.tensor([token for token in (domain.first, domain.last) if token is not None], dtype=torch.int64)
        # Positions of which nothing was sent are there if tokens need them.
        needed = -(-len(words) // batch) + len(framing) - behind
        reached = int((rows.active - positions.first).max()) + 1 if len(rows.active) else 0
        length = max(1, min(max(reached, needed), most - behind))
        order = likely(found.rows, rows, words, framing, positions.first + torch.arange(length), batch)
        start, free = framed(length + behind, order.lengths, domain, behind)
        # Behind the inputs any word is as likely.
        scores = torch.cat([order.scores, order.scores.new_zeros(behind, len(words))])
        open_places = free.flatten().nonzero()[:, 0]
        choice = Open(open_places, words)
        start.view(-1)[open_places] = choice.assigned(1 - scores[open_places % (length + behind)])
        candidates = Candidates.of(problem, embeddings, torch.cat([words, framing]).unique(), length, device)
        random = generator("sentences", problem.salt, seed)
        best = search(candidates, start, choice, self.evaluations, random, told)
        guess = torch.full((batch, most), 0 if domain.pad is None else domain.pad)
        guess[:, : length + behind] = best.inputs
        notes = list(candidates.notes)
        if not order.told:
            notes.append(f"the {batch} sentences of a batch are taken to be of one length, the longest")
        if problem.deviation or any(
            isinstance(term, Cells) for term in problem.measurement.get(positions.parameter, ())
        ):
            notes.append("what was sent is rounded or has noise in it, so that no answer explains it all")
        return guess, best.value, best.spent, tuple(notes)


def _positions(embeddings: Embeddings, attack: str) -> LookupTable:
    """The positions' table; GradwireError where its gradient is not sent."""
    table = embeddings.positions
    if table is None or not table.sent:
        why = "the network looks none up" if table is None else f"{table.parameter or table.layer!r} is not trained"
        raise GradwireError(f"attack {attack!r} needs an embedding of positions on the wire, and {why}; try 'tokens'")
    return table
