"""How well candidates for a batch of sentences explain what was sent: many at once, judged row by row (`strain`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.text.embedding import Embeddings
from gradwire.attacks.inversion.text.strain import Strain
from gradwire.models.mode import copied

STACK = 2048
"""Tokens of candidates that are run side by side: more no longer gain on a CPU."""


class Judged(NamedTuple):
    """The strains of C candidates.

    Attributes:
        value: over everything, (C,); zero where a candidate explains what was sent.
        tokens: in the rows of each token that occurs, (C, R), and `positions`, of each position, (C, n).
        scores: in the rows of the head, of each token that occurs, (C, R).
    """

    value: Tensor
    tokens: Tensor
    positions: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Candidates:
    """What candidates for one victim's batch are judged by.

    Attributes:
        kept: the tokens whose rows are judged, int64 (R,), ascending.
        strains: parameter → its strain, with the rows that are kept.
        names: the parameters of tokens, positions and head; "" where one is not sent.
    """

    match: Match
    kept: Tensor
    strains: Mapping[str, tuple[Strain, Tensor]]
    names: tuple[str, str, str]

    @classmethod
    def of(
        cls, problem: Problem, embeddings: Embeddings, tokens: Tensor, positions: int, device: str = "cpu"
    ) -> "Candidates":
        """Judge candidates by the rows of some tokens, int64 (R,), and of the first positions."""
        model, words, places, head = problem.view.model, embeddings.tokens, embeddings.positions, embeddings.head
        names, about = [words.parameter, "", ""], {words.parameter: (tokens, embeddings.tied)}
        if places is not None and places.sent:
            names[1] = places.parameter
            about[places.parameter] = (places.first + torch.arange(positions), False)
        if head is not None and head.sent and not embeddings.tied:
            names[2] = head.parameter
            about[head.parameter] = (tokens, True)
        strains = {}
        for name, (kept, elsewhere) in about.items():
            shape, terms = model.get_parameter(name).shape, problem.measurement.get(name, ())
            strains[name] = Strain.of(terms, kept.to(device), (shape[0], shape[1]), elsewhere), kept.to(device)
        watched = replace(problem, view=replace(problem.view, model=_watched(model, about)), measurement={})
        return cls(Match.of([watched], device), tokens, strains, (names[0], names[1], names[2]))

    @property
    def notes(self) -> tuple[str, ...]:
        """How gradients were computed."""
        return self.match.engine.notes

    def judge(self, inputs: Tensor) -> Judged:
        """Judge candidates, int64 (C, B, n)."""
        many = max(1, STACK // inputs[0].numel())
        parts = [self._judge(part.to(self.match.targets.device)) for part in inputs.split(many)]
        return Judged(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))

    def local(self, inputs: Tensor, judged: Judged) -> Tensor:
        """The strains of the rows that the token at each place of candidates (C, B, n) touches, added up: (C, B, n)."""
        row = torch.searchsorted(self.kept, inputs.flatten(1)).clamp_max(len(self.kept) - 1)

        def met(strains: Tensor) -> Tensor:
            return torch.where(self.kept[row] == inputs.flatten(1), strains.gather(1, row), 0.0).view_as(inputs)

        found = met(judged.tokens)
        reached = judged.positions.shape[1]
        found[..., :reached] += judged.positions[:, None]
        if judged.scores.shape[1]:
            # A place's hidden state is in the row of the token that follows.
            found[..., :-1] += met(judged.scores)[..., 1:]
        return found

    def _judge(self, inputs: Tensor) -> Judged:
        task = self.match.problems[0].view.task
        known = self.match.targets[0]
        targets = task.loss.derived(inputs) if task.loss.from_inputs else known.expand(len(inputs), *known.shape)
        gradients = self.match.gradients(inputs, targets)
        value = torch.zeros(len(inputs), device=inputs.device)
        rows: list[Tensor] = []
        for name in self.names:
            if not name:
                rows.append(value.new_zeros(len(inputs), 0))
                continue
            strain, kept = self.strains[name]
            seen = gradients[name].some(kept).detach().float()
            rows.append(strain.by_row(seen))
            value = value + rows[-1].mean(1) + strain.mixed(seen)
        return Judged(value, *rows)


def _watched(model: nn.Module, names: Sequence[str] | Mapping[str, object]) -> nn.Module:
    """A copy that trains these parameters alone, without dropout, each draw of which gives another gradient."""
    network = copied(model)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return network
