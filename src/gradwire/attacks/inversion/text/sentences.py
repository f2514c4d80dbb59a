"""Sentences whose tokens' inputs lie in the spans that were measured: DAGER's searches (Petrov et al., 2024, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.layers import Network
from gradwire.attacks.inversion.text.spans import Span
from gradwire.errors import GradwireError

ENTRIES = 2**24
"""Numbers that inputs of a layer may have at once: many candidates are sent through the network part by part."""


class Explosion(GradwireError):
    """There are more candidates than an attack tries."""


@dataclass(frozen=True)
class Spans:
    """What one victim's gradient shows: the spans of layers that see single tokens, and of those that see more.

    Attributes:
        first: of inputs that depend on a token and its position.
        second: of inputs that depend on several tokens; those that are complete.
    """

    first: tuple[Span, ...]
    second: tuple[Span, ...]

    @property
    def complete(self) -> tuple[Span, ...]:
        """The first spans that were seen whole."""
        return tuple(each for each in self.first if each.complete)


@dataclass(frozen=True)
class Found:
    """What a search found for one victim.

    Attributes:
        sentences: token numbers, each sentence as far as its tokens are inputs.
        notes: lines for the report.
    """

    sentences: list[list[int]]
    notes: tuple[str, ...] = field(default=())


def off(spans: Sequence[Span], inputs: dict[str, Tensor], complete: bool) -> Tensor:
    """How far inputs are from all spans: the greatest distance in units of tolerance, or the mean distance."""
    each = [span.distance(inputs[span.layers[0].name]) for span in spans]
    if complete:
        return torch.stack([d / span.tolerance for d, span in zip(each, spans, strict=True)]).amax(0)
    return torch.stack(each).mean(0)


def candidates(network: Network, length: int, victims: Sequence[Spans], allowed: Tensor) -> list[Tensor]:
    """How far each token at each position is from each victim's first spans: (tokens, length) a victim.

    Spans that are complete give distances in units of their tolerance, so that up to 1 a token may be the batch's. Where
    none is, all of them give relative distances.

    Args:
        allowed: int64 numbers of the tokens that sentences are made of.
    """
    chosen = [(each.complete or each.first, bool(each.complete)) for each in victims]
    layers = {span.layers[0].name: span.layers[0] for spans, _ in chosen for span in spans}
    found: list[list[Tensor]] = [[] for _ in victims]
    width = sum(layer.width for layer in layers.values())
    for part in allowed.split(max(1, ENTRIES // (length * width))):
        inputs = network.inputs(part[:, None].expand(-1, length), layers.values())
        for distances, (spans, complete) in zip(found, chosen, strict=True):
            distances.append(off(spans, inputs, complete))
    return [torch.cat(distances) for distances in found]


def prefixes(network: Network, spans: Spans, distances: Tensor, allowed: Tensor, batch: int, most: int) -> Found:
    """A causal model's sentences, exactly: position by position, prefixes whose second inputs lie in their spans.

    Args:
        distances: of `candidates`, in units of tolerance.
        batch: how many sentences there are.
        most: how many prefixes are tried at one position.

    Raises:
        Explosion: more prefixes than `most`.
    """
    front: list[list[int]] = [[]]
    ended: list[tuple[float, list[int]]] = []
    worst = {(): 0.0}
    for position in range(distances.shape[1]):
        tokens = allowed[distances[:, position] <= 1].tolist()
        tried = [[*prefix, token] for prefix in front for token in tokens]
        if len(tried) > most:
            raise Explosion(
                f"{len(front)} prefixes and {len(tokens)} candidates at position {position} are {len(tried)} sentences; "
                f"dager tries at most {most}: fewer sentences in the batch, or combinations={len(tried)}"
            )
        near = _last_inputs(network, spans.second, tried) if tried else torch.empty(0)
        now = {tuple(s): float(d) for s, d in zip(tried, near.tolist(), strict=True) if d <= 1}
        extended = {s[:-1] for s in now}
        ended += [(worst[tuple(s)], s) for s in front if s and tuple(s) not in extended]
        front, worst = [list(s) for s in now], {s: max(d, worst[s[:-1]]) for s, d in now.items()}
        if not front:
            break
    ended += [(worst[tuple(s)], s) for s in front if s]
    # Prefixes that chance has let through end early, and lie farther off.
    ended.sort(key=lambda each: (each[0], -len(each[1])))
    return Found([s for _, s in ended[:batch]], (f"{len(ended)} sentences for a batch of {batch}",))


def _last_inputs(network: Network, second: Sequence[Span], sentences: list[list[int]]) -> Tensor:
    """How far the second inputs at the last positions of sentences of one length are from their spans."""
    if not second:
        return torch.zeros(len(sentences))
    layers = [span.layers[0] for span in second]
    device = next(network.model.parameters()).device
    tokens = torch.tensor(sentences, device=device)
    near = []
    for part in tokens.split(max(1, ENTRIES // (tokens.shape[1] * sum(layer.width for layer in layers)))):
        inputs = {name: found[:, -1] for name, found in network.inputs(part, layers).items()}
        near.append(off(second, inputs, complete=True))
    return torch.cat(near).cpu()
