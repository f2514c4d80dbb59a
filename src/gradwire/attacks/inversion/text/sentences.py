"""Sentences whose inputs lie in the spans that were measured: DAGER's searches (Petrov et al., 2024, section 4).

A causal model's later inputs depend on the tokens before them, so that sentences grow token by token, and what leaves
the spans is given up at once. An encoder's depend on the whole sentence, so that whole sentences have to be tried.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.attacks.inversion.text.seen import ENTRIES, EXPLAINED, Spans, off, unexplained
from gradwire.attacks.inversion.text.spans import Span
from gradwire.errors import GradwireError

SWEEPS = 10


class Explosion(GradwireError):
    """There are more candidates than an attack tries."""


def prefixes(
    network: TracedNetwork, spans: Spans, distances: Tensor, allowed: Tensor, batch: int, most: int
) -> list[list[int]]:
    """A causal model's sentences, exactly: position by position, beginnings whose later inputs lie in their spans.

    Args:
        distances: of `candidates`, in units of tolerance.
        batch: how many sentences there are.
        most: how many beginnings are tried at one position.

    Returns:
        at most `batch` sentences, as far as their tokens are inputs.

    Raises:
        Explosion: more beginnings than `most`.
    """
    front: list[list[int]] = [[]]
    worst: dict[tuple[int, ...], float] = {(): 0.0}
    ended: list[tuple[float, list[int]]] = []
    for position in range(distances.shape[1]):
        tokens = allowed[distances[:, position] <= 1].tolist()
        if len(front) * len(tokens) > most:
            raise Explosion(
                f"{len(front)} beginnings of sentences with {len(tokens)} candidates for token {position + 1} are more "
                f"than dager tries ({most}; see combinations)"
            )
        tried = [[*prefix, token] for prefix in front for token in tokens]
        now = {tuple(s): d for s, d in zip(tried, _distances(network, spans.later, tried), strict=True) if d <= 1}
        extended = {s[:-1] for s in now}
        ended += [(worst[tuple(s)], s) for s in front if s and tuple(s) not in extended]
        front, worst = [list(s) for s in now], {s: max(d, worst[s[:-1]]) for s, d in now.items()}
        if not front:
            break
    ended += [(worst[tuple(s)], s) for s in front if s]
    # Beginnings that chance has let through lie farther off, and end early.
    ended.sort(key=lambda each: (each[0], -len(each[1])))
    return [sentence for _, sentence in ended[:batch]]


def combinations(
    network: TracedNetwork,
    spans: Spans,
    distances: Tensor,
    allowed: Tensor,
    batch: int,
    most: int,
    random: torch.Generator,
) -> list[list[int]]:
    """An encoder's sentences: combinations of each position's tokens whose later inputs all lie in their spans.

    All combinations are tried if there are at most `most`. Otherwise single tokens are replaced while that brings the
    later inputs nearer to their spans, from starts at random; tokens that no found sentence has come first. Spans have
    wide tolerances where most slopes are small, as an untrained encoder's are. The nearest sentences are the answer.

    Raises:
        Explosion: as many as `most` were tried, and not all sentences found.
    """
    columns = [allowed[distances[:, position] <= 1].tolist() for position in range(distances.shape[1])]
    lengths = _lengths(columns, network.domain.last)
    found: dict[tuple[int, ...], float] = {}
    tried, total = 0, 0.0
    for number, length in enumerate(lengths):
        choices = _choices(columns[:length], network.domain.last)
        limit = tried + (most - tried) // (len(lengths) - number)
        count = prod(map(len, choices))
        total += count
        if count <= limit - tried:
            tried += count
            every = [list(each) for each in product(*choices)]
            near = _distances(network, spans.later, every)
            fit = [sentence for sentence, d in zip(every, near, strict=True) if d <= 1]
            found |= dict(zip(map(tuple, fit), _distances(network, spans.later, fit, mean=True), strict=True))
            continue
        while tried < limit and not _settled(network, spans, found, batch):
            sentence, value, cost = _descended(network, spans.later, choices, list(found), random)
            tried += cost
            if _distances(network, spans.later, [sentence])[0] <= 1:
                found[tuple(sentence)] = value
    if total > most and not _settled(network, spans, found, batch):
        raise Explosion(
            f"{total:.2g} combinations of the tokens that fit each position are more than dager tries ({most}; see "
            "combinations), and among those none explains what was seen"
        )
    return _nearest(found, batch)


def _nearest(found: dict[tuple[int, ...], float], batch: int) -> list[list[int]]:
    """The sentences that are nearest to their spans."""
    return [list(sentence) for sentence in sorted(found, key=lambda each: found[each])[:batch]]


def _settled(network: TracedNetwork, spans: Spans, found: dict[tuple[int, ...], float], batch: int) -> bool:
    """Whether the nearest sentences are enough, and explain all that was seen."""
    return len(found) >= batch and unexplained(network, spans, _nearest(found, batch)) < EXPLAINED


def _lengths(columns: list[list[int]], last: int | None) -> list[int]:
    """Lengths that sentences may have, the longest first: a token fits each position, and the last one ends it."""
    whole = next((n for n, tokens in enumerate(columns) if not tokens), len(columns))
    if last is None:
        return list(range(whole, 0, -1))
    return [n + 1 for n in range(whole - 1, -1, -1) if last in columns[n]]


def _choices(columns: list[list[int]], last: int | None) -> list[list[int]]:
    """The tokens of each position of a sentence that ends with the last one, which stands nowhere else."""
    if last is None:
        return columns
    return [*([token for token in tokens if token != last] for tokens in columns[:-1]), [last]]


def _descended(
    network: TracedNetwork,
    later: Sequence[Span],
    choices: list[list[int]],
    found: list[tuple[int, ...]],
    random: torch.Generator,
) -> tuple[list[int], float, int]:
    """A combination of choices that no other token brings nearer to the spans; how far it is, and how many tried."""
    sentence = []
    for position, tokens in enumerate(choices):
        fresh = [t for t in tokens if all(position >= len(s) or s[position] != t for s in found)] or tokens
        sentence.append(fresh[int(torch.randint(len(fresh), (), generator=random))])
    value, tried = _distances(network, later, [sentence], mean=True)[0], 1
    for _ in range(SWEEPS):
        before = value
        for position, tokens in enumerate(choices):
            others = [[*sentence[:position], t, *sentence[position + 1 :]] for t in tokens if t != sentence[position]]
            near = _distances(network, later, others, mean=True)
            tried += len(others)
            if near and min(near) < value:
                value, sentence = min(zip(near, others, strict=True))
        if value == before:
            break
    return sentence, value, tried


def _distances(
    network: TracedNetwork, later: Sequence[Span], sentences: list[list[int]], mean: bool = False
) -> list[float]:
    """How far sentences of one length are from spans, in units of tolerance: the last position's input of a causal
    model, all of an encoder's; their maximum, or the mean over positions and spans.

    The spans of a causal model are asked in turn, each for what the ones before it let through.
    """
    if not later or not sentences:
        return [0.0] * len(sentences)
    device = next(network.model.parameters()).device
    tokens = torch.tensor(sentences, device=device)
    near = torch.zeros(len(tokens), device=device)
    for spans in [(span,) for span in later] if network.causal else [later]:
        kept = (near <= 1).nonzero()[:, 0]
        width = sum(span.width for span in spans)
        for part in kept.split(max(1, ENTRIES // (tokens.shape[1] * width))) if len(kept) else ():
            inputs = network.inputs(tokens[part], [span.layers[0] for span in spans])
            if network.causal:
                inputs = {name: each[:, -1:] for name, each in inputs.items()}
            each = off(spans, inputs, complete=not mean)
            near[part] = torch.maximum(near[part], (each.mean(1) if mean else each.amax(1)).to(near))
    return near.tolist()
