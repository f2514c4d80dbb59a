"""Text as data sets: a column of a table, or SST-2 by name, as tokens of one tokenizer for both splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gradwire.data import frames, hub
from gradwire.data.dataset import Dataset
from gradwire.data.splits import SPLITS, holdout
from gradwire.data.targets import Targets
from gradwire.data.tokenizer import Tokenizer, from_folder, trained
from gradwire.errors import GradwireError
from gradwire.tasks import NextToken, Task, Tokens

Learned = Literal["classify", "next", "regress"]
COUNTED = 10_000
"""Sentences of the training split, the first ones, in which the usual tokens are counted."""


@dataclass(frozen=True, eq=False)
class TextSource:
    """A table with a column of text, of which `source("train")` and `source("test", limit=100)` are data sets.

    Attributes:
        name: what the data set is called in tables.
        train: its rows, a DataFrame; all rows where `test` is None, of which 20 % become the test split.
        test: the rows of the test split.
        column: the text.
        target: the column that a network is to tell; "" where it tells the next token.
        vocabulary: tokens of the tokenizer that is trained on the training split (byte-level BPE); of no use with one
            from a folder.
        length: tokens of the longest sentence, with those that begin and end it; what is behind them is cut off.
        tokenizer: a folder of `transformers`, or a tokenizer.json; "": one is trained.
        task: "classify" (the target is a class, and sentences begin with [CLS] and end with [SEP] where the tokenizer
            has these), "regress" (the target is a number) or "next" (each next token; a sentence of one token, which
            has none, is left out).
    """

    name: str
    train: Any
    test: Any
    column: str
    target: str = ""
    vocabulary: int = 4096
    length: int = 64
    tokenizer: str = ""
    task: Learned = "classify"

    def __call__(self, split: str, limit: int | None = None) -> Dataset:
        """The first `limit` rows of a split, all of them where it is None.

        Raises:
            GradwireError: a column that is missing, a row without text, or a target that does not suit the task.
        """
        try:
            domain, rows = self.domain, self._splits[split].iloc[:limit]
            inputs = self._padded(self._encoded(_sentences(rows[self.column])), domain)
            if self.task != "next":
                targets = self._targets
                return Dataset(
                    self.name, split, inputs, targets.encode(rows[[self.target]]), Task(domain, targets.loss)
                )
        except GradwireError as error:
            raise GradwireError(f"data {self.name!r}: {error}") from None
        loss = NextToken(domain.pad)
        inputs = inputs[domain.mask(inputs).sum(1) > 1]
        return Dataset(self.name, split, inputs, loss.derived(inputs), Task(domain, loss))

    @cached_property
    def domain(self) -> Tokens:
        """What is known of all sentences, from the training split."""
        tokens = self._tokenizer
        ends = (None, None) if self.task == "next" else (tokens.first, tokens.last)
        if self.length < (least := 2 + sum(end is not None for end in ends)):
            raise GradwireError(f"length is {self.length}; it must be {least} or more, with what begins and ends it")
        counted = self._encoded(_sentences(self._splits["train"][self.column].iloc[:COUNTED]))
        often = Counter(token for sentence in counted for token in sentence)
        usual = sorted(often, key=lambda token: (-often[token], token))[: max(1, round(median(map(len, counted))))]
        return Tokens(self.length, tokens.vocabulary, tokens.pad, *ends, tuple(usual))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer:
            return from_folder(self.tokenizer)
        return trained(tuple(_sentences(self._splits["train"][self.column])), self.vocabulary)

    @cached_property
    def _targets(self) -> Targets:
        if not self.target:
            raise GradwireError("no target column is named; say target=NAME, or task=next for the next token")
        return Targets.fit(self._splits["train"][[self.target]], self.task == "classify")

    @cached_property
    def _splits(self) -> Mapping[str, Any]:
        """The rows of each split: those columns that are needed."""
        needed = [self.column, *([self.target] if self.target and self.task != "next" else [])]

        def chosen(rows: Any) -> Any:
            found = frames.frame(rows)
            if missing := [name for name in needed if name not in found.columns]:
                raise GradwireError(f"table has no column {missing[0]!r}; it has {', '.join(found.columns)}")
            return found[needed]

        train = chosen(self.train)
        if self.test is None:
            classes = np.zeros(len(train), np.int64)
            if self.target and self.task == "classify":
                classes = Targets.fit(train[[self.target]], True).encode(train[[self.target]]).numpy()
            return {split: train.iloc[holdout(classes, split)] for split in SPLITS}
        return {"train": train, "test": chosen(self.test)}

    def _encoded(self, sentences: Sequence[str]) -> list[list[int]]:
        """The tokens of each sentence, without those that begin and end it."""
        found = self._tokenizer.encode(sentences)
        if empty := [row for row, tokens in enumerate(found) if not tokens]:
            raise GradwireError(f"column {self.column!r}: row {empty[0]} has no token of the tokenizer's in it")
        return found

    def _padded(self, sentences: Sequence[Sequence[int]], domain: Tokens) -> Tensor:
        """Sentences as one tensor, int64 (N, L), each between what begins and ends it."""
        begin, end = ([] if each is None else [each] for each in (domain.first, domain.last))
        room = domain.length - len(begin) - len(end)
        found = torch.full((len(sentences), domain.length), domain.pad or 0)
        for row, sentence in enumerate(sentences):
            whole = [*begin, *sentence[:room], *end]
            found[row, : len(whole)] = torch.tensor(whole)
        return found


def text(
    rows: Any,
    column: str,
    target: str = "",
    *,
    test: Any = None,
    vocabulary: int = 4096,
    length: int = 64,
    tokenizer: str = "",
    task: Learned = "classify",
    name: str = "text",
) -> TextSource:
    """A column of text in memory as a source of data, for `gradwire.data.load` and all that takes data.

    >>> reviews = text(frame, "review", target="stars")
    >>> reviews("train"), reviews("test", limit=100)

    Args:
        rows: a pandas DataFrame or a Hugging Face `datasets.Dataset`; or both splits, a `DatasetDict` or any mapping
            from `train` and `test`. Of rows alone, a fixed 20 % (of each class) becomes the test split.
        column: as `TextSource`, and so all others.

    Raises:
        GradwireError: a mapping that lacks a split, or an unknown task.
    """
    rows, test = frames.both(rows, test)
    return TextSource(name, rows, test, column, target, vocabulary, length, tokenizer, task)


def load_text(
    path: Path,
    split: str,
    limit: int | None = None,
    *,
    text: str = "",
    target: str = "",
    vocabulary: int = 4096,
    length: int = 64,
    tokenizer: str = "",
    task: Learned = "classify",
) -> Dataset:
    """Load a split of a CSV or Parquet file, or of a folder of `train` and `test` files, with a column of text.

    Args:
        text: the column; for all others see `TextSource`.
    """
    rows, test = frames.read(path)
    return TextSource(path.name, rows, test, text, target, vocabulary, length, tokenizer, task)(split, limit)


def sst2(
    split: str,
    limit: int | None = None,
    *,
    vocabulary: int = 4096,
    length: int = 64,
    tokenizer: str = "",
    task: Learned = "classify",
) -> Dataset:
    """The Stanford Sentiment Treebank (Socher et al. 2013): phrases of film reviews, negative or positive.

    From `$GRADWIRE_DATA/sst2/{train,test}-*.parquet` where that folder exists, or the hub, whose 872 validation
    sentences serve as the test split: the labels of the real one were never published.
    """
    import pandas as pd  # type: ignore[import-untyped]

    def read(part: str) -> Any:
        found, _ = hub.rows("sst2", part)
        names = pd.Categorical.from_codes(found.column("label").to_numpy(), categories=["negative", "positive"])
        sentences = [sentence.strip() for sentence in found.column("sentence").to_pylist()]
        return pd.DataFrame({"sentence": sentences, "label": names})

    both = read("train"), read("test")
    return TextSource("sst2", *both, "sentence", "label", vocabulary, length, tokenizer, task)(split, limit)


def _sentences(column: Any) -> list[str]:
    """The text of a column's rows.

    Raises:
        GradwireError: a row that holds none.
    """
    cells = column.tolist()
    for row, cell in zip(column.index, cells, strict=True):
        if not isinstance(cell, str):
            raise GradwireError(f"column {column.name!r}: row {row} holds {cell!r}; it must be text")
        if not cell.strip():
            raise GradwireError(f"column {column.name!r}: row {row} is an empty sentence; leave it out")
    return cells
