"""A search over the orders of tokens: swaps and replacements judged by what a candidate's own gradient would have sent.

From a candidate, swaps of two places, and replacements of tokens that occur twice, are judged at once. The strains of
the rows that a moved token touches fill a table of costs, of a token at a place, whose best assignment (the Hungarian
method) is a long step; the best moves that do not touch each other, made together, are shorter ones. The best of
these is the next candidate. Where nothing is better, a few random swaps in the best candidate so far are a new
beginning. Random numbers come from a seed and the effort is a number of evaluations, so that the same seed finds the
same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.candidates import Candidates, Judged

EXPLAINED = 1e-4
"""A strain below which a candidate explains what was sent; float32 rounding stays far below."""
MOVES = 512
"""Swaps that are judged from one candidate at most, and replacements as well."""
TOGETHER = 6
"""Moves that are made together at most."""
KICK = 3
"""Random swaps of a new beginning."""
DEAR = 1e3
"""The cost of a token at a place where it was not judged."""
GAIN = 1e-6
"""By how much a step must be better."""


class Found(NamedTuple):
    """The best candidate (B, n), its strain, and the evaluations that were spent."""

    inputs: Tensor
    value: float
    spent: int


class Moves(NamedTuple):
    """M changes of a candidate: the places (M, 2), numbered through its batch, and the tokens put there, (M, 2)."""

    places: Tensor
    tokens: Tensor

    def made(self, now: Tensor) -> Tensor:
        """The candidates (M, B, n) after one move each."""
        changed = now.flatten().repeat(len(self.places), 1).scatter_(1, self.places, self.tokens)
        return changed.view(-1, *now.shape)


@dataclass(frozen=True)
class Open:
    """What a search may change of a batch.

    Attributes:
        places: numbers of places in the flattened batch, int64 (F,).
        words: tokens that may stand there, int64 (W,): each is to occur, as far as there is room.
    """

    places: Tensor
    words: Tensor

    def assigned(self, cost: Tensor) -> Tensor:
        """The tokens (F,) of the cheapest assignment where a token at a place costs (F, W)."""
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

        least, cheapest = cost.min(1)
        # Places beyond the number of words take any word again.
        again = least[:, None].expand(-1, max(0, len(self.places) - len(self.words)))
        rows, columns = map(torch.as_tensor, linear_sum_assignment(torch.cat([cost, again], 1).numpy()))
        words = torch.where(columns < len(self.words), columns, cheapest[rows])
        return self.words[cheapest.scatter(0, rows, words)]


def search(
    candidates: Candidates,
    start: Tensor,
    choice: Open,
    evaluations: int,
    random: torch.Generator,
    told: Callable[[int], None],
) -> Found:
    """The batch (B, n) of the least strain that so many evaluations find from a start.

    Args:
        told: called with the evaluations spent so far.
    """
    best, least, spent = start, float("inf"), 0

    def judge(inputs: Tensor) -> Judged:
        nonlocal best, least, spent
        judged = candidates.judge(inputs)
        spent += len(inputs)
        place = int(judged.value.argmin())
        if float(judged.value[place]) < least:
            best, least = inputs[place], float(judged.value[place])
        told(spent)
        return judged

    now, here = start, judge(start[None])
    while least > EXPLAINED and spent < evaluations:
        moves = _moves(now, choice, random)
        if not len(moves.places):
            break
        after = moves.made(now)
        judged = judge(after)
        steps = _together(now, moves, judged.value - here.value)
        steps.append(_long_step(candidates, now, here, after, judged, moves, choice))
        further = judge(torch.stack(steps))
        value, place = torch.cat([judged.value, further.value]).min(0)
        if float(value) < float(here.value) - GAIN:
            now = torch.cat([after, torch.stack(steps)])[place]
        else:
            now = _kicked(best, choice, random)
        here = judge(now[None])
    return Found(best, least, spent)


def _moves(now: Tensor, choice: Open, random: torch.Generator) -> Moves:
    """Swaps of two places with different tokens, and replacements that leave no word out, some of each at random."""
    places, words = choice.places, choice.words
    tokens = now.flatten()[places]
    one, other = torch.triu_indices(len(places), len(places), 1)
    swaps = torch.stack([one, other], 1)[tokens[one] != tokens[other]]
    swaps = swaps[torch.randperm(len(swaps), generator=random)[:MOVES]]
    swapped = Moves(places[swaps], tokens[swaps.flip(1)])
    often = (tokens[:, None] == tokens).sum(1) > 1
    loose = often | ~torch.isin(tokens, words) | (len(words) > len(places))
    pairs = torch.cartesian_prod(loose.nonzero()[:, 0], torch.arange(len(words)))
    pairs = pairs[tokens[pairs[:, 0]] != words[pairs[:, 1]]]
    pairs = pairs[torch.randperm(len(pairs), generator=random)[:MOVES]]
    where, what = places[pairs[:, 0]], words[pairs[:, 1]]
    return Moves(
        *(torch.cat([a, torch.stack([b, b], 1)]) for a, b in ((swapped.places, where), (swapped.tokens, what)))
    )


def _together(now: Tensor, moves: Moves, gain: Tensor) -> list[Tensor]:
    """The best two, three, … moves that touch different places, made together."""
    found: list[Tensor] = []
    touched: set[int] = set()
    flat = now.flatten().clone()
    for place in gain.argsort().tolist():
        both = set(moves.places[place].tolist())
        if float(gain[place]) >= 0 or len(found) == TOGETHER:
            break
        if not both & touched:
            touched |= both
            flat[moves.places[place]] = moves.tokens[place]
            found.append(flat.view_as(now).clone())
    return found[1:]


def _long_step(
    candidates: Candidates, now: Tensor, here: Judged, after: Tensor, judged: Judged, moves: Moves, choice: Open
) -> Tensor:
    """The candidate of the cheapest assignment, by what each move says of the tokens that it puts somewhere."""
    cost = torch.full((now.numel(), int(max(choice.words.max(), now.max())) + 1), DEAR)
    before = candidates.local(now[None], here)[0].flatten()
    cost[choice.places, now.flatten()[choice.places]] = before[choice.places]
    each = candidates.local(after, judged).flatten(1)
    for side in (0, 1):
        at, token = moves.places[:, side], moves.tokens[:, side]
        cost[at, token] = torch.minimum(cost[at, token], each.gather(1, at[:, None])[:, 0])
    step = now.flatten().clone()
    step[choice.places] = choice.assigned(cost[choice.places][:, choice.words])
    return step.view_as(now)


def _kicked(best: Tensor, choice: Open, random: torch.Generator) -> Tensor:
    """The best candidate after a few random swaps."""
    flat = best.flatten().clone()
    for _ in range(KICK):
        pair = choice.places[torch.randint(len(choice.places), (2,), generator=random)]
        flat[pair] = flat[pair.flip(0)]
    return flat.view_as(best)
