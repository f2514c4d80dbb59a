"""The measurements of many victims, of whatever schemes, as one: so that they are attacked as one batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Measurement, Moments, Term


@dataclass(frozen=True)
class Part:
    """One term and whose it is.

    Attributes:
        rows: numbers of the victims, int64, ascending; `where`: the same as a slice where they are in a row, for
            then their gradients are taken without a copy.
    """

    term: Term
    rows: Tensor
    where: slice | Tensor

    @classmethod
    def of(cls, group: Iterable[tuple[int, Term]], like: Tensor) -> "Part":
        """Join the terms of (victim, term) pairs, with the dtype and device of `like`."""
        numbers, terms = zip(*group, strict=True)
        rows = torch.tensor(numbers, device=like.device)
        adjacent = numbers[-1] - numbers[0] == len(numbers) - 1
        joined = type(terms[0]).stack(terms).to(like.device, like.dtype)
        return cls(joined, rows, slice(numbers[0], numbers[-1] + 1) if adjacent else rows)


@dataclass(frozen=True)
class StackedMeasurement:
    """The measurements of V victims, terms of a kind joined, ready to be held against V gradients at once.

    Attributes:
        parts: parameter name → terms of a kind, with the victims that they belong to.
        energy: ‖y‖² of each victim's observations, shape (V,).
    """

    parts: Mapping[str, Sequence[Part]]
    energy: Tensor

    @classmethod
    def of(cls, measurements: Sequence[Measurement], like: Tensor) -> "StackedMeasurement":
        """Join the measurements of victims 0 to V − 1, with the dtype and device of `like`."""
        found: dict[str, dict[tuple[object, ...], list[tuple[int, Term]]]] = {}
        energy = torch.zeros(len(measurements), dtype=like.dtype, device=like.device)
        for row, measurement in enumerate(measurements):
            for name, terms in measurement.items():
                for position, term in enumerate(terms):
                    found.setdefault(name, {}).setdefault((position, *term.key), []).append((row, term))
        parts = {name: [Part.of(group, like) for group in groups.values()] for name, groups in found.items()}
        for part in (part for several in parts.values() for part in several):
            energy.index_add_(0, part.rows, part.term.observed.flatten(1).square().sum(1))
        return cls(parts, energy)

    def moments(self, gradients: Mapping[str, Gradient]) -> Moments:
        """⟨A(G), y⟩ and ‖A(G)‖² over all of each victim's terms.

        Args:
            gradients: parameter name → gradients of V victims.

        Returns:
            two tensors of shape (V,).
        """
        inner, square = torch.zeros_like(self.energy), torch.zeros_like(self.energy)
        for name, parts in self.parts.items():
            for part in parts:
                along, norm = part.term.moments(gradients[name].rows(part.where))
                # In mixed precision the products come out in half of it.
                inner = inner.index_add(0, part.rows, along.to(inner.dtype))
                square = square.index_add(0, part.rows, norm.to(square.dtype))
        return inner, square

    def distance(self, gradients: Mapping[str, Gradient]) -> Tensor:
        """‖A(G) − y‖² over all of each victim's terms, shape (V,)."""
        total = torch.zeros_like(self.energy)
        for name, parts in self.parts.items():
            for part in parts:
                off = part.term.distance(gradients[name].rows(part.where))
                total = total.index_add(0, part.rows, off.to(total.dtype))
        return total

    def surprise(self, gradients: Mapping[str, Gradient], variance: Tensor) -> Tensor:
        """−log p(y | G) over all of each victim's terms, shape (V,); `variance` (V,) is that of an entry's noise."""
        total = torch.zeros_like(self.energy)
        for name, parts in self.parts.items():
            for part in parts:
                found = part.term.surprise(gradients[name].rows(part.where), variance[part.rows])
                total = total.index_add(0, part.rows, found.to(total.dtype))
        return total

    def violation(self, gradients: Mapping[str, Gradient]) -> Tensor:
        """By how much candidates contradict what was sent, the mean over parameters, shape (V,); zero where none do."""
        total, parameters = torch.zeros_like(self.energy), torch.zeros_like(self.energy)
        for name, parts in self.parts.items():
            for part in parts:
                broken = part.term.violation(gradients[name].rows(part.where))
                if broken is not None:
                    total = total.index_add(0, part.rows, broken.to(total.dtype))
                    parameters[part.rows] += 1
        return total / parameters.clamp_min(1)

    def counts(self) -> Tensor:
        """How many numbers were observed of each victim, shape (V,); a padded entry does not count."""
        total = torch.zeros_like(self.energy)
        for part in (part for several in self.parts.values() for part in several):
            total = total.index_add(0, part.rows, part.term.counts().to(total))
        return total
