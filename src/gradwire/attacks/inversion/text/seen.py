"""What one victim's gradient shows of a text: the spans of layers' inputs, and how far tokens are from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.text.layers import LinearLayer, TracedNetwork
from gradwire.attacks.inversion.text.spans import Span, readable, span
from gradwire.schemes import Measurement, dense, observation
from gradwire.schemes.measurement import Dense, RightSketch, Signs, Support

ENTRIES = 2**22
"""Numbers that inputs of a layer may have at once: many candidates are sent through the network part by part."""
EXPLAINED = 1e-5
"""The unexplained share of exact spans without noise below which sentences are the batch's."""
LATER = 3
"""How many spans of inputs that depend on several tokens are compared with: the earliest that were seen whole."""


@dataclass(frozen=True)
class Spans:
    """The spans of one victim.

    Attributes:
        first: of inputs that depend on a token and its position.
        later: of inputs that depend on several tokens, in the order of the layers; they are complete.
        silent: weights of which only zeros were sent.
        length: positions at which a token is an input; None where nothing of an embedding of positions was sent.
    """

    first: tuple[Span, ...]
    later: tuple[Span, ...]
    silent: tuple[str, ...]
    length: int | None

    @property
    def complete(self) -> tuple[Span, ...]:
        """The first spans that were seen whole."""
        return tuple(each for each in self.first if each.complete)


def seen(network: TracedNetwork, problem: Problem, batch: int, length: int) -> Spans:
    """The spans that a victim's measurement shows.

    Args:
        batch: how many sentences there are.
        length: tokens of one that are inputs, at most.
    """
    measurement = _readable(network, problem)
    known = _length(network, problem)
    most = batch * (length if known is None else min(known, length))
    groups: dict[int, list[LinearLayer]] = {}
    for layer in network.layers:
        if layer.weight in measurement:
            groups.setdefault(layer.group, []).append(layer)
    first: list[Span] = []
    later: list[Span] = []
    silent: list[str] = []
    for layers in groups.values():
        single = layers[0].reach == "token"
        if not single and len(later) == LATER:
            continue
        each = span(layers, measurement, most)
        if single and each is None:
            weights = [layer.weight for layer in layers]
            silent += [weight for weight in weights if not any(t.observed.any() for t in measurement[weight])]
        # Tokens at their positions are as many as beginnings of sentences, and as sentences' parts.
        tokens = max((s.tokens for s in first if s.complete), default=0)
        if each is not None and single:
            first.append(each)
        elif each is not None and each.complete and each.tokens >= tokens:
            later.append(each)
    return Spans(tuple(first), tuple(later), tuple(silent), known)


def off(spans: Sequence[Span], inputs: dict[str, Tensor], complete: bool) -> Tensor:
    """How far inputs are from all spans: the greatest distance in units of tolerance, or the mean distance."""
    each = [span.distance(inputs[span.layers[0].name]) for span in spans]
    if complete:
        return torch.stack([d / span.tolerance for d, span in zip(each, spans, strict=True)]).amax(0)
    return torch.stack(each).mean(0)


def candidates(network: TracedNetwork, length: int, victims: Sequence[Spans], allowed: Tensor) -> list[Tensor]:
    """How far each token at each position is from each victim's first spans: (tokens, length) a victim.

    Spans that are complete give distances in units of their tolerance, so that up to 1 a token may be the batch's.
    Where none is, all of them give relative distances. A token that begins all sentences stands nowhere else.

    Args:
        allowed: int64 numbers of the tokens that sentences are made of.
    """
    chosen = [(each.complete or each.first, bool(each.complete)) for each in victims]
    layers = {span.layers[0].name: span.layers[0] for spans, _ in chosen for span in spans}
    found = [torch.full((len(allowed), length), torch.inf, device=allowed.device) for _ in victims]
    width = sum(layer.width for layer in layers.values())
    for part in torch.arange(len(allowed)).split(max(1, ENTRIES // (length * max(width, 1)))) if layers else ():
        inputs = network.inputs(allowed[part][:, None].expand(-1, length), layers.values())
        for distances, (spans, complete) in zip(found, chosen, strict=True):
            if spans:
                distances[part] = off(spans, inputs, complete).to(distances)
    return [_placed(distances, network, allowed) for distances in found]


def listed(distances: Tensor, allowed: Tensor, batch: int) -> list[list[int]]:
    """The nearest tokens of each position, as many as there are sentences, in no sentence's order."""
    return allowed[distances.topk(batch, dim=0, largest=False).indices].tolist()


def unexplained(network: TracedNetwork, spans: Spans, sentences: Sequence[list[int]]) -> float:
    """The greatest share of a span that the inputs of sentences leave unexplained; 1 where there is no sentence."""
    chosen = [*spans.first, *spans.later]
    device = next(network.model.parameters()).device
    found: dict[str, list[Tensor]] = {}
    for sentence in sentences:
        tokens = torch.tensor([sentence], device=device)
        for name, inputs in network.inputs(tokens, [each.layers[0] for each in chosen]).items():
            found.setdefault(name, []).append(inputs[0])
    if not found:
        return 1.0
    return max(each.unexplained(torch.cat(found[each.layers[0].name])) for each in chosen)


def _readable(network: TracedNetwork, problem: Problem) -> Measurement:
    """The measurement; where no vectors can be read of it, the decoded update, whose scale does not matter."""
    measurement = problem.measurement
    if all(readable(measurement[layer.weight]) for layer in network.layers if layer.weight in measurement):
        return measurement
    scheme, observed = observation(problem.view)
    return dense(scheme.decode(observed))


def _length(network: TracedNetwork, problem: Problem) -> int | None:
    """Positions up to the last one whose row of the embedding of positions has a gradient, as far as that was sent."""
    name, first = network.positions or ("", 0)
    for term in problem.measurement.get(name, ()):
        rows = len(network.model.get_parameter(name))
        if isinstance(term, Support):
            width = network.model.get_parameter(name).shape[1]
            used = term.indices[0][term.weight[0] > 0] // width
        elif isinstance(term, Dense | RightSketch | Signs):
            # A row without a gradient holds zeros, or (signs, rounded upwards or not) one number.
            each = term.observed[0].reshape(rows, -1)
            used = (each != each[:, :1]).any(1).logical_or(each[:, 0].ne(0) & (each.shape[1] == 1)).nonzero()[:, 0]
        else:
            continue
        return int(used.max()) + 1 - first if len(used) else None
    return None


def _placed(distances: Tensor, network: TracedNetwork, allowed: Tensor) -> Tensor:
    """Distances, infinite where the token that begins all sentences cannot stand, and where it alone can."""
    domain = network.domain
    if domain.first is not None:
        begins = allowed == domain.first
        distances[~begins, 0] = torch.inf
        distances[begins, 1:] = torch.inf
    return distances
