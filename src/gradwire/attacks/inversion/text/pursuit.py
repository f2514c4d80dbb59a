"""One sentence from spans that are not seen whole: fewer vectors than tokens, or vectors with noise.

No input lies in such a span, but the span lies in that of the inputs: a sentence is the better, the more of the
measured span its tokens' inputs span together. This is the search for few atoms that explain several vectors at once
(J. A. Tropp, A. C. Gilbert, M. J. Strauss, "Algorithms for simultaneous sparse approximation, part I: Greedy pursuit",
Signal Processing 86, 2006), with one atom a position. It is not in DAGER's paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.attacks.inversion.text.seen import EXPLAINED
from gradwire.attacks.inversion.text.spans import DEPENDENT, Span, spanned

SHORTLIST = 1024
"""Tokens that are tried at a position, by their distance from the span."""
SWEEPS = 20


def pursue(
    network: TracedNetwork,
    spans: Sequence[Span],
    distances: Tensor,
    allowed: Tensor,
    restarts: int,
    random: torch.Generator,
    whole: bool = True,
) -> list[int]:
    """The tokens of one sentence: the best atom first, then the best one beside it, and then each anew in turns.

    Where spans are exact, the true sentence explains all of them but for noise. A search that ends elsewhere gives up
    some of the positions, at random, and fills them again.

    Args:
        spans: of inputs that depend on a token and its position.
        distances: of tokens `allowed` at each position, (tokens, L): the nearest ones are tried; infinite where a token
            cannot stand.
        restarts: how often positions are given up at most.
        whole: whether the sentence is known to have all L tokens. Otherwise lengths are tried, each a quarter longer.
    """
    longest = distances.shape[1]
    if whole:
        return _pursued(network, spans, distances, allowed, restarts, random)[0]
    # Tokens too many do no harm while they are few: those that explain nothing are dropped behind the end.
    length, best = min(longest, max(span.tokens for span in spans)), (torch.inf, [0])
    while True:
        one, value = _pursued(network, spans, distances[:, :length], allowed, restarts // 4, random)
        if value < EXPLAINED:
            return _shortened(network, spans, one)
        # Tokens at random span their number's share of all directions.
        share = max(1 - length / span.width for span in spans)
        best = min(best, (value / max(share, 1e-3), one))
        if length == longest:
            return best[1]
        length = min(longest, length + max(1, length // 4))


def _pursued(
    network: TracedNetwork,
    spans: Sequence[Span],
    distances: Tensor,
    allowed: Tensor,
    restarts: int,
    random: torch.Generator,
) -> tuple[list[int], float]:
    """As `pursue`, of a known length; and what the sentence leaves unexplained."""
    tried = allowed[distances.topk(min(SHORTLIST, len(allowed)), dim=0, largest=False).indices]
    inputs = network.inputs(tried, [span.layers[0] for span in spans])
    atoms = _Atoms(tuple(spans), {name: each.double() for name, each in inputs.items()})
    noise = max(float(1 - span.certainty.mean()) for span in spans)
    best = atoms.settled(atoms.filled({}))
    value = atoms.unexplained(best)
    for _ in range(restarts if all(span.exact for span in spans) else 0):
        if value < EXPLAINED + noise:
            break
        share = 0.3 + 0.6 * float(torch.rand(1, generator=random))
        kept = torch.rand(tried.shape[1], generator=random) < share
        other = atoms.settled(atoms.filled({p: place for p, place in best.items() if kept[p]}))
        if (now := atoms.unexplained(other)) < value:
            best, value = other, now
    return [int(tried[best[position], position]) for position in range(tried.shape[1])], value


def _shortened(network: TracedNetwork, spans: Sequence[Span], sentence: list[int]) -> list[int]:
    """A sentence that explains spans, without the tokens at its end that they do not need."""
    tokens = torch.tensor([sentence], device=next(network.model.parameters()).device)
    inputs = network.inputs(tokens, [span.layers[0] for span in spans])
    while len(sentence) > 1:
        shorter = [span.unexplained(inputs[span.layers[0].name][0, : len(sentence) - 1]) for span in spans]
        if max(shorter) >= EXPLAINED:
            break
        sentence = sentence[:-1]
    return sentence


@dataclass(frozen=True)
class _Atoms:
    """The inputs (N, L, width) that N tokens at each of L positions have, by the name of a layer.

    A sentence, or a part of one, is a mapping: position → number of the token in its column of atoms.
    """

    spans: tuple[Span, ...]
    inputs: Mapping[str, Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """N and L."""
        return tuple(next(iter(self.inputs.values())).shape[:2])  # type: ignore[return-value]

    def chosen(self, span: Span, sentence: Mapping[int, int]) -> Tensor:
        """The inputs of a sentence's tokens, (tokens, width)."""
        each = self.inputs[span.layers[0].name]
        return torch.stack([each[place, position] for position, place in sentence.items()])

    def unexplained(self, sentence: Mapping[int, int]) -> float:
        """The mean share of the spans that a sentence leaves unexplained."""
        return sum(span.unexplained(self.chosen(span, sentence)) for span in self.spans) / len(self.spans)

    def filled(self, sentence: Mapping[int, int]) -> dict[int, int]:
        """The sentence with its empty positions filled, each time by the atom that adds most to what is explained."""
        sentence = dict(sentence)
        free = [position for position in range(self.shape[1]) if position not in sentence]
        rests = [_Rest(span, self.inputs[span.layers[0].name][:, free]) for span in self.spans]
        for rest, span in zip(rests, self.spans, strict=True):
            for direction in spanned(self.chosen(span, sentence)).mT if sentence else ():
                rest.without(direction)
        empty = torch.ones(len(free), dtype=torch.bool)
        while empty.any():
            total = torch.stack([rest.gains() for rest in rests]).sum(0)
            place, column = divmod(int(total.masked_fill(~empty.to(total.device), -1).argmax()), len(free))
            sentence[free[column]] = place
            empty[column] = False
            for rest in rests:
                rest.without_atom(place, column)
        return sentence

    def settled(self, sentence: dict[int, int]) -> dict[int, int]:
        """The sentence after its tokens were replaced, one position after the other, until none is better replaced."""
        for _ in range(SWEEPS):
            before = dict(sentence)
            for position in range(self.shape[1]):
                gain = self.gains({p: place for p, place in sentence.items() if p != position}, position)
                # Of equal inputs, the one that was chosen stays.
                if gain[sentence[position]] < gain.max() * (1 - 1e-9):
                    sentence[position] = int(gain.argmax())
            if sentence == before:
                break
        return sentence

    def gains(self, sentence: Mapping[int, int], position: int) -> Tensor:
        """What each atom at a position would add to what a sentence explains: (N,)."""
        total = []
        for span in self.spans:
            rest = _Rest(span, self.inputs[span.layers[0].name][:, [position]])
            if sentence:
                rest.without(*spanned(self.chosen(span, sentence)).mT)
            total.append(rest.gains()[:, 0])
        return torch.stack(total).sum(0)


class _Rest:
    """What atoms (N, L, width) could still explain of a span, as directions are taken out of both.

    Products with the span, and lengths, are brought up to date with every direction, not the atoms themselves.
    """

    def __init__(self, span: Span, atoms: Tensor):
        self.atoms, self.target = atoms, (span.basis * span.certainty).to(atoms)
        self.weight = float(span.certainty.square().sum().clamp_min(1e-30))
        self.products = atoms @ self.target
        self.square = atoms.square().sum(2)
        self.least = DEPENDENT**2 * self.square
        self.taken: list[Tensor] = []

    def gains(self) -> Tensor:
        """The share of the span that each atom would add, (N, L): nothing where rounding alone is left of it."""
        explained = self.products.square().sum(2) / self.square.clamp_min(1e-30)
        return torch.where(self.square > self.least, explained, 0) / self.weight

    def without(self, *directions: Tensor) -> None:
        """Take out orthonormal directions, orthogonal to those before."""
        taken = torch.stack(directions, 1)
        along = self.atoms @ taken
        self.products -= along @ (taken.mT @ self.target)
        self.square -= along.square().sum(2)
        self.taken += taken.unbind(1)

    def without_atom(self, place: int, column: int) -> None:
        """Take out what is left of an atom."""
        left = self.atoms[place, column]
        for _ in range(2):  # twice is enough against rounding
            for direction in self.taken:
                left = left - (left @ direction) * direction
        if left.norm() > DEPENDENT * self.atoms[place, column].norm():
            self.without(left / left.norm())
