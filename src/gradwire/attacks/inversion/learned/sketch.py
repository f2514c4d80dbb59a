"""The numbers that were sent of a victim, and, where they are many, a random sketch of them, layer by layer.

M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams", 2002, section 3.2 (the count sketch):
every number goes to one of the sketch's places, with a random sign. Distances of vectors are kept in expectation, and
nothing larger than the vectors themselves is ever held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes import Measurement
from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Support, Term
from gradwire.seeds import generator

FAR = 8.0
"""Standard deviations beyond which a number is cut."""
LEAST = 0.05
"""The least standard deviation of a number, in units of the root mean square of its layer's: some rarely are not 0."""


@dataclass(frozen=True)
class Block:
    """The numbers of one term: the parameter's name, the term's place among its terms, how many there are."""

    name: str
    position: int
    size: int


def blocks(measurements: Sequence[Measurement], layout: Layout) -> tuple[Block, ...]:
    """The numbers that rounds send, in the order of the parameters; entries that one sends and another does not too."""
    found: dict[tuple[str, int], int] = {}
    for measurement in measurements:
        for name, terms in measurement.items():
            for position, term in enumerate(terms):
                whole = layout.sizes[name] if isinstance(term, Support) else term.observed[0].numel()
                found[name, position] = whole
    order = {name: place for place, name in enumerate(layout.shapes)}
    return tuple(Block(*key, found[key]) for key in sorted(found, key=lambda key: (order[key[0]], key[1])))


def numbers(measurement: Measurement, of: Sequence[Block]) -> Tensor:
    """What was sent of V victims, (V, N): entries that were not sent, of a parameter or of all, are zero."""
    victims = len(next(iter(measurement.values()))[0].observed)
    return torch.cat([_block(measurement, block, victims) for block in of], 1)


def _block(measurement: Measurement, block: Block, victims: int) -> Tensor:
    terms = measurement.get(block.name, ())
    if block.position >= len(terms):
        return torch.zeros(victims, block.size)
    term: Term = terms[block.position]
    values = term.observed.detach().cpu().float()
    if isinstance(term, Support):
        sent = values * term.weight.cpu().float()
        return torch.zeros(victims, block.size).scatter_add_(1, term.indices.cpu(), sent)
    if values[0].numel() != block.size:
        counts = f"{values[0].numel()} numbers of {block.name!r} in one round and {block.size} in another"
        raise GradwireError(f"learned: the scheme sends {counts}; it needs a scheme that sends as many of each")
    return values.flatten(1)


@dataclass(frozen=True)
class Sketch:
    """Numbers (V, N), standardised, as features (V, F).

    Attributes:
        mean: of each number, (N,), and `deviation`.
        place: the feature to which each number is added, int64 (N,), with its `sign`; None where each stays itself.
        size: F.
    """

    mean: Tensor
    deviation: Tensor
    place: Tensor | None
    sign: Tensor
    size: int

    @classmethod
    def fit(cls, sample: Tensor, of: Sequence[Block], most: int, seed: int) -> "Sketch":
        """Standardise by a sample (S, N) of numbers; where N is larger than `most`, sketch them.

        Layers share the features equally; one that has fewer numbers than its share keeps them as they are.
        """
        sizes = [block.size for block in of]
        deviation = sample.std(0, correction=0)
        least = [part.square().mean().sqrt().mul(LEAST).expand_as(part) for part in deviation.split(sizes)]
        deviation = torch.maximum(deviation, torch.cat(least)).clamp_min(torch.finfo(torch.float32).tiny)
        if sum(sizes) <= most:
            return cls(sample.mean(0), deviation, None, torch.ones(()), sum(sizes))
        random = generator("sketch", seed)
        kept = _shared(sizes, most)
        places, first = [], 0
        for size, share in zip(sizes, kept, strict=True):
            own = torch.arange(size) if share == size else torch.randint(share, (size,), generator=random)
            places.append(own + first)
            first += share
        sign = 2.0 * torch.randint(2, (sum(sizes),), generator=random) - 1
        return cls(sample.mean(0), deviation, torch.cat(places), sign, sum(kept))

    def __call__(self, values: Tensor) -> Tensor:
        """The features of numbers (V, N)."""
        standard = ((values - self.mean) / self.deviation).clamp_(-FAR, FAR)
        if self.place is None:
            return standard
        added = torch.zeros(self.size, len(values))
        return added.index_add_(0, self.place, (standard * self.sign).mT.contiguous()).mT


def _shared(sizes: Sequence[int], most: int) -> list[int]:
    """How many features each layer gets: an equal share of `most`, the smallest layers no more than they have."""
    kept, left = [0] * len(sizes), most
    for done, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        kept[place] = max(1, min(sizes[place], left // (len(sizes) - done)))
        left -= kept[place]
    return kept
