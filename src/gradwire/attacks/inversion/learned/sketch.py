"""The numbers that were sent of a victim, and, where they are many, a random sketch of them, layer by layer.

M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams", 2002, section 3.2 (the count sketch):
every number goes to one of the sketch's places, with a random sign. Distances of vectors are kept in expectation, and
nothing larger than the vectors themselves is ever held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

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
        mean: of each number, (N,), and `scale`: ±1 over its deviation, the signs at random.
        sizes: how many numbers each layer has, and `kept`, how many features it gets: its i-th number is added to its
            feature i mod kept. The signs are random, so no place is better than another, and these cost no look-up.
    """

    mean: Tensor
    scale: Tensor
    sizes: tuple[int, ...]
    kept: tuple[int, ...]

    @classmethod
    def fit(cls, sample: Tensor, of: Sequence[Block], most: int, seed: int) -> "Sketch":
        """Standardise by a sample (S, N) of numbers; where N is larger than `most`, sketch them.

        Layers share the features equally; one that has fewer numbers than its share keeps them as they are.
        """
        sizes = tuple(block.size for block in of)
        deviation = sample.std(0, correction=0)
        least = [part.square().mean().sqrt().mul(LEAST).expand_as(part) for part in deviation.split(sizes)]
        deviation = torch.maximum(deviation, torch.cat(least)).clamp_min(torch.finfo(torch.float32).tiny)
        signs = 2.0 * torch.randint(2, (sum(sizes),), generator=generator("sketch", seed)) - 1
        return cls(sample.mean(0), signs / deviation, sizes, _shared(sizes, most))

    def __call__(self, values: Tensor) -> Tensor:
        """The features of numbers (V, N)."""
        standard = ((values - self.mean).mul_(self.scale)).clamp_(-FAR, FAR)
        layers = zip(standard.split(self.sizes, 1), self.kept, strict=True)
        return torch.cat([_folded(layer, kept) for layer, kept in layers], 1)


def _folded(values: Tensor, kept: int) -> Tensor:
    """Numbers (V, n) added up to (V, kept)."""
    if values.shape[1] == kept:
        return values
    return pad(values, (0, -values.shape[1] % kept)).unflatten(1, (-1, kept)).sum(1)


def _shared(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """How many features each layer gets: an equal share of `most`, the smallest layers no more than they have."""
    kept, left = [0] * len(sizes), most
    for done, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        kept[place] = max(1, min(sizes[place], left // (len(sizes) - done)))
        left -= kept[place]
    return tuple(kept)
