"""The tokens of a batch, in no order, from the rows of the embedding's gradient (see `rows` for each scheme)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.text.embedding import text_domain, trace
from gradwire.attacks.inversion.text.evidence import evidence
from gradwire.errors import at_least
from gradwire.progress import Progress, silent
from gradwire.tasks import Tokens
from gradwire.tasks.tokens import OPEN


@dataclass(frozen=True)
class TokenSet(Specified):
    """Name the tokens of each batch.

    Attributes:
        distinct: how many different tokens a batch holds, where the adversary is assumed to know; 0: it does not. This
            is of use where the head's matrix is the embedding's, so that all rows have a gradient.
    """

    name: ClassVar[str] = "tokens"

    distinct: int = 0

    def __post_init__(self) -> None:
        at_least(0, distinct=self.distinct)

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems one by one, on the CPU; no checkpoint is written.

        Returns:
            the tokens, each once, dealt out to a batch's sentences, the surest first; they stand in no order. The
            objective is zero, and infinite where nothing was found.

        Raises:
            GradwireError: the inputs are no text, or no embedding is on the wire.
        """
        view = problems[0].view
        domain = text_domain(view.task, self.name)
        embeddings = trace(view.model, view.task)
        inputs, objective = [], torch.zeros(len(problems))
        notes = ["tokens: which tokens a batch holds; the order in which they are listed says nothing"]
        for number, problem in enumerate(problems):
            found = evidence(problem, embeddings, self.name, self.distinct, seed)
            inputs.append(dealt(found.tokens, problem.view.shape, domain))
            objective[number] = 0.0 if len(found.tokens) else torch.inf
            notes += [*found.notes, *pooled_note(problem)]
            progress(ATTACKING, number + 1, len(problems))
        notes += [f"{self.name} {note}" for note in problems[0].left_aside()]
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        return Guess(
            torch.stack(inputs), targets, objective, 1, int(objective.isinf().sum()), tuple(dict.fromkeys(notes))
        )


def dealt(tokens: Tensor, shape: tuple[int, ...], domain: Tokens) -> Tensor:
    """Tokens dealt out to the sentences (B, L) of a guess, one after the other."""
    batch, length = shape
    guess = torch.full((batch, length), OPEN if domain.pad is None else domain.pad)
    for place, token in enumerate(tokens.tolist()[: batch * length]):
        guess[place % batch, place // batch] = token
    return guess


def pooled_note(problem: Problem) -> tuple[str, ...]:
    """A line on tokens of several clients at once."""
    count = len(problem.clients)
    if problem.knowledge == "naive" or count == 1:
        return ()
    return (f"what was sent is a mean over {count} clients: tokens are those of all of them, nobody's in particular",)
