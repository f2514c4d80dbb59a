"""Text: sequences of tokens of a vocabulary, filled up to one length by a token that stands for nothing."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.tasks.domain import Arguments, Cell, Domain


@dataclass(frozen=True)
class Tokens(Domain):
    """Sentences as token numbers, int64 (L,): those after a sentence's end are `pad`.

    Attributes:
        length: L, the longest sentence.
        vocabulary: the text of each token.
        pad: the token that fills up short sentences, and stands nowhere else; None: all sentences have one length.
        first: the token that begins every sentence ([CLS]), and `last`, the one that ends it ([SEP]), where there are.
    """

    name: ClassVar[str] = "tokens"
    what: ClassVar[str] = "sentences"
    scores: ClassVar[tuple[str, ...]] = (
        "positions",
        "token_precision",
        "token_recall",
        "exact",
        "rouge1",
        "rouge2",
        "rougeL",
    )
    continuous: ClassVar[bool] = False
    dtype: ClassVar[torch.dtype] = torch.int64

    length: int
    vocabulary: tuple[str, ...] = field(repr=False)
    pad: int | None = 0
    first: int | None = None
    last: int | None = None

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

    def arguments(self, model: nn.Module, inputs: Tensor) -> Arguments:
        """`input_ids` and `attention_mask` where the network takes these, or the tokens alone.

        Raises:
            GradwireError: a network that takes no mask, and sentences with padding.
        """
        known = inspect.signature(model.forward).parameters
        if "input_ids" not in known:
            if "attention_mask" not in known and self.pad is not None and bool((inputs == self.pad).any()):
                kind = type(model).__name__
                raise GradwireError(
                    f"{kind} takes no attention_mask, and sentences are filled up with token {self.pad}"
                )
            return (inputs,), {}
        named: dict[str, object] = {"input_ids": inputs}
        if "attention_mask" in known:
            named["attention_mask"] = self.mask(inputs).long()
        return (), named

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
        """Positions right, precision and recall of tokens, exact sentences, and ROUGE."""
        raise NotImplementedError

    def cells(self, inputs: Tensor) -> Sequence[Sequence[Cell]]:
        """The tokens of each sentence, without padding."""
        return [
            [Cell("", self.vocabulary[int(token)]) for token in row if self.pad is None or int(token) != self.pad]
            for row in inputs
        ]
