"""Rows of a table: numbers, standardised, and categories, one column of zeros and ones a value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.tasks.domain import Cell, Domain

NEAR = 0.319
"""Standard deviations within which a number counts as right: TabLeak (Vero et al. 2023), section 5."""


@dataclass(frozen=True)
class Number:
    """A field of numbers, as everybody knows it.

    Attributes:
        name: of the field.
        mean: in the training split, and `std`, the standard deviation: the encoded number is (value − mean) / std.
        low: the least value, and `high`, the greatest, in the field's own unit; a search stays between them.
        usual: the median, which someone answers who knows nothing.
        whole: whether values are whole numbers.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    usual: float
    whole: bool = False

    def text(self, encoded: float) -> str:
        """The value as people read it."""
        value = encoded * self.std + self.mean
        return str(round(value)) if self.whole else f"{value:.4g}"


@dataclass(frozen=True)
class Category:
    """A field of categories.

    Attributes:
        name: of the field.
        values: what it can hold, at least two.
        usual: the most frequent one, which someone answers who knows nothing.
    """

    name: str
    values: tuple[str, ...]
    usual: str


@dataclass(frozen=True)
class Columns(Domain):
    """Rows (F,): the standardised numbers first, then, for each category in turn, a one among zeros.

    Attributes:
        numbers: the fields of numbers, and `categories`, the others.
        guessed: the share of fields that someone gets right who answers what is usual.
    """

    name: ClassVar[str] = "columns"
    what: ClassVar[str] = "rows"
    scores: ClassVar[tuple[str, ...]] = ("fields", "numbers_right", "categories_right", "whole_rows")
    enough: ClassVar[float | str] = "four fifths of the fields that nobody guesses"
    network: ClassVar[str] = "mlp:hidden=100"

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    guessed: float = 0.5

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """How many columns a row has once it is encoded."""
        return (len(self.numbers) + sum(len(field.values) for field in self.categories),)

    @property
    def assumed(self) -> str:
        """What an adversary is assumed to know: the schema."""
        known = "the ranges of the numbers, the values that categories can have, and what is usual in each"
        return f"It knows the {len(self.numbers) + len(self.categories)} fields of the table, {known}."

    def groups(self) -> Iterator[slice]:
        """The columns of each category."""
        start = len(self.numbers)
        for field in self.categories:
            yield slice(start, start + len(field.values))
            start += len(field.values)

    def check(self, inputs: Tensor) -> None:
        """Refuse another width, numbers that are not finite, and categories that are not a one among zeros."""
        if inputs.ndim != 2 or not len(inputs) or inputs.shape[1:] != self.shape:
            raise GradwireError(f"rows have shape {tuple(inputs.shape)}; they must be (B, {self.shape[0]}), B ≥ 1")
        finite = torch.isfinite(inputs[:, : len(self.numbers)]).all(0)
        if len(wrong := (~finite).nonzero()):
            raise GradwireError(f"column {self.numbers[int(wrong[0])].name!r} holds a value that is not finite")
        for field, group in zip(self.categories, self.groups(), strict=True):
            one_hot = inputs[:, group]
            if not bool(((one_hot == 0) | (one_hot == 1)).all() and (one_hot.sum(1) == 1).all()):
                raise GradwireError(f"column {field.name!r} is not encoded as a one among zeros")

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The ranges of the numbers; categories are sought without bounds, and made probabilities by `relaxed`."""
        low, high = torch.full(self.shape, -torch.inf), torch.full(self.shape, torch.inf)
        for place, field in enumerate(self.numbers):
            low[place], high[place] = ((bound - field.mean) / field.std for bound in (field.low, field.high))
        return low, high

    def relaxed(self, points: Tensor) -> Tensor:
        """Numbers as they are, and a softmax over the values of each category."""
        soft = [points[..., group].softmax(-1) for group in self.groups()]
        return torch.cat([points[..., : len(self.numbers)], *soft], -1)

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Normal numbers, and the softmax of normal ones: no rows, but between them."""
        return self.relaxed(self.start(*size, random=random))

    def start(self, *size: int, random: torch.Generator) -> Tensor:
        """Normal numbers; where there are categories, they are logits."""
        return torch.randn(*size, *self.shape, generator=random)

    def snapped(self, inputs: Tensor) -> Tensor:
        """Numbers within their range, whole ones rounded, and the likeliest value of each category."""
        low, high = (bound.to(inputs) for bound in self.bounds())
        found = torch.minimum(torch.maximum(inputs, low), high)
        for place, field in enumerate(self.numbers):
            if field.whole:
                found[..., place] = ((found[..., place] * field.std + field.mean).round() - field.mean) / field.std
        for group in self.groups():
            one_hot = torch.zeros_like(inputs[..., group])
            found[..., group] = one_hot.scatter(-1, inputs[..., group].argmax(-1, keepdim=True), 1.0)
        return found

    def completed(self, inputs: Tensor, known: Tensor) -> Tensor:
        """Rows (…, F) of which some columns are known (bool): the usual value for categories of which none is."""
        found, usual = inputs.clone(), self.uninformed().to(inputs)
        for group in self.groups():
            found[..., group] = torch.where(known[..., group].any(-1, keepdim=True), inputs[..., group], usual[group])
        return found

    def agreement(self, guess: Tensor, truth: Tensor) -> Tensor:
        """Which fields of guesses are those of true rows, bool (…, fields), numbers first; inputs are broadcast."""
        count = len(self.numbers)
        near = (guess[..., :count] - truth[..., :count]).abs() <= NEAR
        same = [guess[..., g].argmax(-1) == truth[..., g].argmax(-1) for g in self.groups()]
        return torch.cat([near, *(each[..., None] for each in same)], -1)

    def distance(self, guess: Tensor, truth: Tensor) -> Tensor:
        """The share of fields that are wrong: (B, B)."""
        return 1 - self.agreement(guess[None], truth[:, None]).double().mean(-1)

    def score(self, guess: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        """The share of fields that are right, of numbers, of categories, and of rows in which all are."""
        right, count = self.agreement(guess, truth).double(), len(self.numbers)
        nothing = right.new_full((len(right),), torch.nan)
        return {
            "fields": right.mean((1, 2)),
            "numbers_right": right[..., :count].mean((1, 2)) if count else nothing,
            "categories_right": right[..., count:].mean((1, 2)) if self.categories else nothing,
            "whole_rows": (right == 1).all(2).double().mean(1),
        }

    def success(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Four fifths of the fields that nobody guesses: nine in ten of all, where half of them can be guessed."""
        return scores["fields"] >= 1 - (1 - self.guessed) / 5

    def uninformed(self) -> Tensor:
        """The median of each number, and the most frequent value of each category."""
        row = torch.zeros(self.shape)
        for place, number in enumerate(self.numbers):
            row[place] = (number.usual - number.mean) / number.std
        for field, group in zip(self.categories, self.groups(), strict=True):
            row[group][field.values.index(field.usual)] = 1
        return row

    def cells(self, inputs: Tensor) -> Sequence[Sequence[Cell]]:
        """Every field's name and value."""
        return [list(self._cells(row)) for row in inputs]

    def right(self, guess: Tensor, truth: Tensor) -> Sequence[Sequence[bool]]:
        """By `agreement`: numbers need not be equal."""
        return self.agreement(guess, truth).tolist()

    def _cells(self, row: Tensor) -> Iterator[Cell]:
        for place, number in enumerate(self.numbers):
            yield Cell(number.name, number.text(float(row[place])))
        for field, group in zip(self.categories, self.groups(), strict=True):
            yield Cell(field.name, field.values[int(row[group].argmax())])
