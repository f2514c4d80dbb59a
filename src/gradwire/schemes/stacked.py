"""The measurements of many victims, of whatever schemes, as one: so that they are attacked as one batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Measurement, Moments, Term


@dataclass(frozen=True)
class Part:
    """One term, joined over the victims that it belongs to.

    Attributes:
        rows: numbers of the victims, int64, ascending; `where`: the same, as a slice where they are adjacent, so that
            their gradients are taken without a copy.
    """

    term: Term
    rows: Tensor
    where: slice | Tensor

    @classmethod
    def of(cls, group: Iterable[tuple[int, Term]], like: Tensor) -> "Part":
        """Join the terms of (victim, term) pairs, with the dtype and device of `like`.

        One victim's own term, row for row, as that of its restarts, is held once.
        """
        numbers, terms = zip(*group, strict=True)
        rows = torch.tensor(numbers, device=like.device)
        adjacent = numbers[-1] - numbers[0] == len(numbers) - 1
        first, *others = terms
        if all(term is first for term in others):
            joined = first.to(like.device, like.dtype).repeat(len(terms))
        else:
            joined = type(first).stack(terms).to(like.device, like.dtype)
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

    def select(self, rows: Tensor) -> "StackedMeasurement":
        """The measurements of some victims, int64 (R,), each as often as it is named."""
        parts: dict[str, list[Part]] = {}
        for name, several in self.parts.items():
            for part in several:
                places = torch.full_like(self.energy, -1, dtype=torch.int64)
                places[part.rows] = torch.arange(len(part.rows), device=rows.device)
                kept = (places[rows] >= 0).nonzero()[:, 0]
                if len(kept):
                    whole = len(kept) == len(rows)
                    term = part.term.rows(places[rows[kept]])
                    parts.setdefault(name, []).append(Part(term, kept, slice(0, len(rows)) if whole else kept))
        return StackedMeasurement(parts, self.energy[rows])

    def residuals(self, gradients: Mapping[str, Gradient]) -> Iterator[tuple[str, Tensor, Tensor]]:
        """A(G) − y of each term, zero where a shorter observation is padded.

        Args:
            gradients: parameter name → gradients of V victims.

        Yields:
            the parameter's name, the n victims that the term belongs to (int64, shape (n,)), and A(G) − y, (n, …).
        """
        for name, part, gradient in self._terms(gradients):
            yield name, part.rows, part.term.apply(gradient) - part.term.observed

    def total(self, gradients: Mapping[str, Gradient], of: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ over each victim's terms of a function of A(G) − y, shape (V,).

        Args:
            of: from (n, N), the residuals of n victims, each flat, to (n,): `lambda off: off.abs().sum(1)` for L1.
        """
        return self._sum((rows, of(off.flatten(1))) for _, rows, off in self.residuals(gradients))

    def distance(self, gradients: Mapping[str, Gradient]) -> Tensor:
        """‖A(G) − y‖² over all of each victim's terms, shape (V,)."""
        return self.total(gradients, lambda off: off.square().sum(1))

    def moments(self, gradients: Mapping[str, Gradient]) -> Moments:
        """⟨A(G), y⟩ and ‖A(G)‖² over all of each victim's terms, two tensors of shape (V,)."""
        found = [(part.rows, *part.term.moments(gradient)) for _, part, gradient in self._terms(gradients)]
        inner = self._sum((rows, along) for rows, along, _ in found)
        return inner, self._sum((rows, square) for rows, _, square in found)

    def surprise(self, gradients: Mapping[str, Gradient], variance: Tensor) -> Tensor:
        """−log p(y | G) over all of each victim's terms, shape (V,); `variance` (V,) is that of an entry's noise."""
        terms = self._terms(gradients)
        return self._sum((part.rows, part.term.surprise(gradient, variance[part.rows])) for _, part, gradient in terms)

    def violation(self, gradients: Mapping[str, Gradient]) -> Tensor:
        """By how much candidates contradict what was sent, the mean over parameters, shape (V,); zero where none do."""
        each = [(part.rows, part.term.violation(gradient)) for _, part, gradient in self._terms(gradients)]
        broken = [(rows, found) for rows, found in each if found is not None]
        return self._sum(broken) / self._sum((rows, torch.ones_like(found)) for rows, found in broken).clamp_min(1)

    def counts(self) -> Tensor:
        """How many numbers were observed of each victim, shape (V,); a padded entry does not count."""
        return self._sum((part.rows, part.term.counts()) for parts in self.parts.values() for part in parts)

    def _terms(self, gradients: Mapping[str, Gradient]) -> Iterator[tuple[str, Part, Gradient]]:
        """Each part with its parameter's name and the gradients of the victims that it belongs to."""
        for name, parts in self.parts.items():
            for part in parts:
                yield name, part, gradients[name].rows(part.where)

    def _sum(self, found: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Add up (rows, a value each) by victim, shape (V,), in the precision of what was observed."""
        total = torch.zeros_like(self.energy)
        for rows, values in found:
            # In mixed precision the values come out in half of it.
            total = total.index_add(0, rows, values.to(total.dtype))
        return total
