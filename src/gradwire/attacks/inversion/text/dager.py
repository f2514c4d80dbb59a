"""Whole sentences from the spans of two layers' inputs, without a search over continuous numbers.

I. Petrov, D. I. Dimitrov, M. Baader, M. N. Müller, M. Vechev, "DAGER: Exact gradient inversion for large language
models", NeurIPS 2024. A token may stand at a position if its input of the first block's linear layers lies in the span
of their gradient's rows; a sentence may be the batch's if its inputs of later layers do, too. Only linear layers are
read, so that frozen embeddings and LoRA's adapters (whose A receives what the layer beside it does) change nothing.

Beyond the paper, spans that are not seen whole are used as far as they go (`pursuit`), and the last token of a causal
model's sentence, which is no input, is told by the head's gradient (`targets`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.attacks.inversion.text.pursuit import pursue
from gradwire.attacks.inversion.text.seen import EXPLAINED, Spans, candidates, listed, seen, unexplained
from gradwire.attacks.inversion.text.sentences import Explosion, combinations, prefixes
from gradwire.attacks.inversion.text.targets import last_tokens
from gradwire.errors import GradwireError, check_counts
from gradwire.progress import Progress, silent
from gradwire.seeds import generator
from gradwire.tasks import Tokens
from gradwire.tasks.tokens import OPEN

EVERYTHING = 0.5
"""A span in which so large a share of the vocabulary lies is that of any inputs: it tells nothing."""


@dataclass(frozen=True)
class Dager(Specified):
    """Solve for the sentences.

    Attributes:
        combinations: parts of sentences that are tried at most, at one position (causal models) or in all.
        restarts: of the search for a sentence in spans that are not seen whole.
    """

    name: ClassVar[str] = "dager"

    combinations: int = 20_000
    restarts: int = 16

    def __post_init__(self) -> None:
        check_counts(self.name, self, "combinations")
        check_counts(self.name, self, "restarts", least=0)

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems one after another; no checkpoint is written.

        Returns:
            sentences, int64 (V, B, L): −1 where a token was not found, the padding behind a sentence's end. The
            objective is the greatest share of a measured span that the found tokens' inputs leave unexplained: near
            zero proves the sentences, where spans are without noise. It is infinite where nothing was found.

        Raises:
            GradwireError: inputs that are no text, a network whose layers cannot be read, or no victim whose batch has
                fewer tokens than the layers' inputs have numbers.
        """
        view = problems[0].view
        network = TracedNetwork.of(view.model, view.task, view.mode, view.shape[-1], device)
        domain, (batch, length) = view.task.domain, view.shape
        assert isinstance(domain, Tokens)
        # The last token of a sentence is only the target of the one before it.
        length -= int(view.task.loss.from_inputs)
        victims = [seen(network, problem, batch, length) for problem in problems]
        allowed = torch.tensor([t for t in range(len(domain.vocabulary)) if t != domain.pad], device=device)
        length = max(length if each.length is None else min(each.length, length) for each in victims)
        near = candidates(network, length, victims, allowed)
        inputs = torch.full((len(problems), *view.shape), OPEN)
        objective = torch.full((len(problems),), torch.inf)
        reasons: dict[str, int] = {}
        notes: dict[str, int] = {}
        for number, (problem, spans, distances) in enumerate(zip(problems, victims, near, strict=True)):
            distances = distances[:, : spans.length]
            why = _told_nothing(spans, distances, view.shape)
            if why:
                reasons[why] = reasons.get(why, 0) + 1
            else:
                random = generator("dager", seed, problem.salt)
                found, how = self._sentences(network, spans, distances, allowed, batch, random)
                objective[number] = unexplained(network, spans, found)
                ends = last_tokens(network, problem, found) if view.task.loss.from_inputs else []
                _write(inputs[number], found, ends, domain.pad)
                notes[how] = notes.get(how, 0) + 1
            progress(ATTACKING, number + 1, len(problems))
        if len(reasons) == 1 and sum(reasons.values()) == len(problems):
            raise GradwireError(f"dager: {next(iter(reasons))}")
        proven = int((objective < EXPLAINED).sum())
        lines = [f"dager: the sentences of {proven} of {len(problems)} victims explain all that was seen of the spans"]
        lines += [f"dager: {what}: {count} of {len(problems)} victims" for what, count in {**reasons, **notes}.items()]
        lines += [f"dager {note}" for note in problems[0].left_aside()]
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        return Guess(inputs, targets, objective, 1, sum(reasons.values()), tuple(lines))

    def _sentences(
        self,
        network: TracedNetwork,
        spans: Spans,
        distances: Tensor,
        allowed: Tensor,
        batch: int,
        random: torch.Generator,
    ) -> tuple[list[list[int]], str]:
        """What was found of one victim's sentences, and how."""
        found: list[list[int]] = []
        how = "spans were not seen whole"
        if spans.complete:
            try:
                if network.causal:
                    found = prefixes(network, spans, distances, allowed, batch, self.combinations)
                else:
                    found = combinations(network, spans, distances, allowed, batch, self.combinations, random)
                how = "sentences within the spans"
            except Explosion as error:
                how = str(error)
            if len(found) == batch or (found and batch > 1):
                return found, how
        if batch > 1:
            return listed(distances, allowed, batch), f"{how}: tokens by position, in no sentence's order"
        one = pursue(network, spans.first, distances, allowed, self.restarts, random, spans.length is not None)
        other = found and unexplained(network, spans, found) <= unexplained(network, spans, [one])
        return (found, how) if other else ([one], f"{how}: the sentence that explains most of them")


def _told_nothing(spans: Spans, distances: Tensor, shape: tuple[int, ...]) -> str:
    """Why nothing can be read of a victim's gradient, if so; the shape is (B, L) of its batch."""
    if not spans.first:
        if spans.silent:
            zero = f"the gradient of {spans.silent[0]!r} is zero"
            return f"{zero}, as LoRA's A has while B is zero; and no other span of single tokens was seen"
        return "no gradient was sent of a linear layer that receives single tokens"
    narrow = min(spans.first, key=lambda span: span.width)
    if bool((distances <= 1).double().mean() > EVERYTHING) and spans.complete:
        tokens = f"{shape[0]} sentences of up to {shape[1]} tokens"
        return (
            f"{tokens} fill the {narrow.width} numbers that an input of {narrow.layers[0].name!r} has, so that every "
            "token fits: it needs fewer tokens in a batch than that width"
        )
    return ""


def _write(guess: Tensor, sentences: Sequence[list[int]], ends: Sequence[int | None], pad: int | None) -> None:
    """Put sentences into a guess (B, L), with their last tokens where these are apart, and padding behind them."""
    for row, sentence in enumerate(sentences):
        whole = [*sentence, *(OPEN if end is None else end for end in ends[row : row + 1])]
        guess[row, : len(whole)] = torch.tensor(whole)
        if pad is not None:
            guess[row, len(whole) :] = pad
