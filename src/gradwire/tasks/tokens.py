"""Text: sequences of tokens of a vocabulary, filled up to one length by a token that stands for nothing."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.text import check_sizes
from gradwire.tasks.domain import Arguments, Cell, Domain
from gradwire.tasks.rouge import KINDS, f1, rouge, shared

OPEN = -1
"""In a guess, a position of which the attack knows that there is a token, but not which."""
UNKNOWN = Cell("", "·")


@dataclass(frozen=True)
class Tokens(Domain):
    """Sentences as token numbers, int64 (L,): those after a sentence's end are `pad`.

    A guess may leave a position open by `OPEN`, which no sentence holds; `pad` says that the sentence has ended.

    Attributes:
        length: L, the longest sentence.
        vocabulary: the text of each token, with a space before it where it begins a word: joined, they are the text.
        pad: the token that fills up short sentences, and stands nowhere else; None: all sentences have one length.
        first: the token that begins every sentence ([CLS]), and `last`, the one that ends it ([SEP]), where there are.
        usual: the most frequent tokens of the training split, the first the most frequent, as many as a sentence has in
            the median: what someone answers who knows nothing.
    """

    name: ClassVar[str] = "tokens"
    what: ClassVar[str] = "sentences"
    scores: ClassVar[tuple[str, ...]] = (
        "positions",
        "token_precision",
        "token_recall",
        "distinct_precision",
        "distinct_recall",
        "exact",
        *KINDS,
    )
    enough: ClassVar[float | str] = "every sentence, from beginning to end"
    network: ClassVar[str] = "bert"
    continuous: ClassVar[bool] = False
    dtype: ClassVar[torch.dtype] = torch.int64

    length: int
    vocabulary: tuple[str, ...] = field(repr=False)
    pad: int | None = 0
    first: int | None = None
    last: int | None = None
    usual: tuple[int, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(L,)."""
        return (self.length,)

    @property
    def facts(self) -> Mapping[str, object]:
        """What makes a network of tokens."""
        return {"vocabulary": len(self.vocabulary), "length": self.length, "pad": self.pad}

    @property
    def assumed(self) -> str:
        """What an adversary is assumed to know: tokenizer and length."""
        return (
            f"It knows the tokenizer ({len(self.vocabulary)} tokens) and that no sentence has more than {self.length}."
        )

    def mask(self, inputs: Tensor) -> Tensor:
        """Which positions of inputs (…, L) hold a token of the sentence, bool."""
        return torch.ones_like(inputs, dtype=torch.bool) if self.pad is None else inputs != self.pad

    def counted(self, inputs: Tensor) -> Tensor:
        """Which positions of inputs (…, L) hold a token that a score counts, bool: none that everybody knows."""
        found = self.mask(inputs)
        for known in (self.first, self.last):
            if known is not None:
                found = found & (inputs != known)
        return found

    def text(self, sentence: Tensor) -> str:
        """One sentence (L,) as text, without the tokens that everybody knows; open positions are dots."""
        tokens = sentence[self.counted(sentence)].tolist()
        return "".join(f" {UNKNOWN.text}" if token == OPEN else self.vocabulary[token] for token in tokens).strip()

    def check(self, inputs: Tensor) -> None:
        """Refuse another shape, tokens outside the vocabulary, empty sentences, and padding within one."""
        if inputs.dtype != torch.int64 or inputs.ndim != 2 or not len(inputs):
            raise GradwireError(
                f"tokens are {inputs.dtype} of shape {tuple(inputs.shape)}; they must be int64 (B, L), B ≥ 1"
            )
        if inputs.shape[1] > self.length:
            raise GradwireError(
                f"a sentence of {inputs.shape[1]} tokens is longer than the model's {self.length} positions"
            )
        low, high = int(inputs.min()), int(inputs.max())
        if low < 0 or high >= len(self.vocabulary):
            bad, most = low if low < 0 else high, len(self.vocabulary) - 1
            raise GradwireError(f"token {bad} is outside the vocabulary; it must be from 0 to {most}")
        mask = self.mask(inputs)
        if len(empty := (~mask.any(1)).nonzero()):
            raise GradwireError(f"sentence {int(empty[0])} is empty; it must have a token that is not padding")
        if len(gap := (mask[:, 1:] & ~mask[:, :-1]).any(1).nonzero()):
            raise GradwireError(f"sentence {int(gap[0])} has padding before its end; padding fills up the end alone")

    def reached(self, inputs: Tensor) -> Tensor:
        """Inputs without the positions that no sentence of the batch reaches; all positions under vmap."""
        if self.pad is None:
            return inputs
        try:
            return inputs[..., : max(1, int(self.mask(inputs).sum(-1).max()))]
        except RuntimeError:
            return inputs

    def arguments(self, model: nn.Module, inputs: Tensor) -> Arguments:
        """`input_ids` and `attention_mask` where the network takes these, or the tokens alone.

        Raises:
            GradwireError: a network that takes no mask, and sentences with padding; or one of `transformers` with fewer
                tokens than the vocabulary has, or fewer positions than the sentences.
        """
        check_sizes(model, len(self.vocabulary), inputs.shape[-1])
        known, mask = inspect.signature(model.forward).parameters, self.mask(inputs)
        given, named = ((), {"input_ids": inputs}) if "input_ids" in known else ((inputs,), {})
        if "attention_mask" in known:
            return given, {**named, "attention_mask": mask.long()}
        if _some(~mask):
            kind = type(model).__name__
            raise GradwireError(
                f"{kind} takes no attention_mask, and sentences are filled up with token {self.pad}; "
                "take sentences of one length, or a network that does"
            )
        return given, named

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Tokens at random, without padding."""
        found = torch.randint(len(self.vocabulary), (*size, *self.shape), generator=random)
        return (
            found if self.pad is None else found.masked_fill(found == self.pad, (self.pad + 1) % len(self.vocabulary))
        )

    def snapped(self, inputs: Tensor) -> Tensor:
        """Tokens are as they are."""
        return inputs

    def score(self, guess: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        """How much of each victim's sentences was found; tokens that everybody knows (first, last, pad) do not count.

        - `positions`: the share of a batch's tokens that stand where they are.
        - `token_precision` and `token_recall`: of the batch's tokens, wherever they stand; one counts as often as it is
          in both. `distinct_precision` and `distinct_recall` count each once: which tokens the batch has.
        - `exact`: the share of sentences that are right from beginning to end.
        - `rouge1`, `rouge2`, `rougeL`: means over sentences (`gradwire.tasks.rouge`).
        """
        rows = [self._scored(ours, true) for ours, true in zip(guess.cpu(), truth.cpu(), strict=True)]
        return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in self.scores}

    def success(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Every sentence, from beginning to end."""
        return scores["exact"] >= 1

    def distance(self, guess: Tensor, truth: Tensor) -> Tensor:
        """One less the mean of two shares, (B, B): of tokens found, by their F1, and of positions right."""
        ours, true = (list(map(self._tokens, each.cpu())) for each in (guess, truth))
        found = torch.tensor([[f1(one, other) for one in ours] for other in true], dtype=torch.float64)
        right = self._right(guess[None], truth[:, None]).sum(-1).double().cpu()
        counts = self.counted(truth).sum(-1).clamp_min(1).cpu()
        return 1 - (found + right / counts[:, None]) / 2

    def uninformed(self) -> Tensor | None:
        """The usual tokens, in a sentence as it must be; None where none are known."""
        if not self.usual:
            return None
        ends = [[token] if token is not None else [] for token in (self.first, self.last)]
        middle = list(self.usual)[: self.length - sum(map(len, ends))]
        found = torch.full(self.shape, OPEN if self.pad is None else self.pad)
        sentence = [*ends[0], *middle, *ends[1]]
        found[: len(sentence)] = torch.tensor(sentence)
        return found

    def cells(self, inputs: Tensor) -> Sequence[Sequence[Cell]]:
        """The tokens of each sentence up to its end, a dot where a guess leaves a position open."""
        return [[self._cell(token) for token in row[: self._end(row)].tolist()] for row in inputs]

    def right(self, guess: Tensor, truth: Tensor) -> Sequence[Sequence[bool]]:
        """Which of a guess's `cells` are the tokens that stand there."""
        return [(one == other)[: self._end(one)].tolist() for one, other in zip(guess, truth, strict=True)]

    def _scored(self, guess: Tensor, truth: Tensor) -> dict[str, float]:
        """The scores of one victim's sentences (B, L)."""
        ours, true = ([token for row in each for token in self._tokens(row)] for each in (guess, truth))
        counts, right = self.counted(truth), self._right(guess, truth)
        whole = ((guess == truth) | ~(counts | self.counted(guess))).all(-1)
        several = [rouge(self.text(one), self.text(other)) for one, other in zip(guess, truth, strict=True)]
        precision, recall = shared(ours, true)
        found = dict(zip(("distinct_precision", "distinct_recall"), shared(set(ours), set(true)), strict=True))
        found |= {"token_precision": precision, "token_recall": recall}
        found |= {"positions": int(right.sum()) / max(1, int(counts.sum())), "exact": float(whole.double().mean())}
        return found | {kind: sum(each[kind] for each in several) / len(several) for kind in KINDS}

    def _right(self, guess: Tensor, truth: Tensor) -> Tensor:
        """Which counted positions of true sentences (…, L) a guess has right."""
        return (guess == truth) & self.counted(truth)

    def _tokens(self, sentence: Tensor) -> list[int]:
        """The counted tokens of one sentence (L,), without positions left open."""
        return sentence[self.counted(sentence) & (sentence != OPEN)].tolist()

    def _end(self, sentence: Tensor) -> int:
        """How many positions there are to the last token that is no padding."""
        held = self.mask(sentence).nonzero()
        return int(held.max()) + 1 if len(held) else 0

    def _cell(self, token: int) -> Cell:
        return UNKNOWN if token in (OPEN, self.pad) else Cell("", self.vocabulary[token])


def _some(mask: Tensor) -> bool:
    """Whether any entry is true; under vmap, where no value can be looked at, none is taken to be."""
    try:
        return bool(mask.any())
    except RuntimeError:
        return False
