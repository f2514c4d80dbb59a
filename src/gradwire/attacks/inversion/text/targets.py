"""The last tokens of a causal model's sentences, which are no inputs: targets alone, told by the head's gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.models.mode import slopes
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Dense, RightSketch, Support

LEFT = 0.5
"""A last token is told where its row of the head's gradient loses half of its length once it is accounted for."""
ROUNDS = 3


def last_tokens(network: TracedNetwork, problem: Problem, sentences: Sequence[list[int]]) -> list[int | None]:
    """The token behind each sentence; None where the head's gradient does not show it.

    The loss is the mean over N targets, so that the gradient of the head's row v is Σ (p_v − [y = v])·h / N over the
    inputs h of the head, p being the model's prediction and y the target. With the sentences known, all but the −h / N
    of the last targets can be subtracted, and stands alone in their rows. Where the head's weight is the embedding's,
    too, the latter's part depends a little on these targets, and is computed anew with what was found.

    Args:
        sentences: as far as their tokens are inputs.
    """
    told: list[int | None] = [None] * len(sentences)
    head, pad = network.head, network.domain.pad
    terms = () if head is None else problem.measurement.get(head.weight, ())
    term = next((t for t in terms if isinstance(t, Dense | RightSketch | Support)), None)
    if head is None or term is None or not sentences or (pad is None and len(set(map(len, sentences))) > 1):
        return told
    device = next(network.model.parameters()).device
    weight = network.model.get_parameter(head.weight)
    counted = sum(map(len, sentences))
    ends = [sentence[-1] for sentence in sentences]
    for _ in range(ROUNDS):
        rows = [torch.tensor([*s, end], device=device) for s, end in zip(sentences, ends, strict=True)]
        tokens = pad_sequence(rows, batch_first=True, padding_value=0 if pad is None else pad)
        reached = network.inputs(tokens, [head])[head.name]
        states = torch.stack([reached[row, len(s) - 1] for row, s in enumerate(sentences)]) / counted
        loss = network.task.value(network.model, tokens, network.task.loss.derived(tokens))
        gradient = slopes(loss, {head.weight: weight})[head.weight].detach()
        # As if no sentence had a last target.
        gradient.index_add_(0, torch.tensor(ends, device=device), states)
        off = term.to(device).observed - term.to(device).apply(Full(gradient[None]))
        known: Tensor | None = None
        if isinstance(term, RightSketch):
            states = states @ term.right[0].to(states)
        if isinstance(term, Support):
            values, known = torch.zeros(2, weight.numel(), device=device)
            sent = term.indices[0].to(device)
            values[sent], known[sent] = off[0], term.weight[0].to(off)
            off, known = values.view(1, *weight.shape), known.view(weight.shape)
        told = _assigned(off[0].to(states), states, known)
        now = [end if token is None else token for token, end in zip(told, ends, strict=True)]
        if now == ends:
            break
        ends = now
    return told


def _assigned(rows: Tensor, states: Tensor, known: Tensor | None) -> list[int | None]:
    """The row from which each state (B, r) was subtracted, the clearest first: rows (tokens, r), `known` where sent."""
    rows = rows.clone()
    told: list[int | None] = [None] * len(states)
    size = rows.norm(dim=1)
    for _ in told:
        best: tuple[float, int, int] | None = None
        for number, state in enumerate(states):
            if told[number] is None:
                added = state if known is None else state * known
                gain = rows.square().sum(1) - (rows + added).square().sum(1)
                row = int(gain.argmax())
                if best is None or float(gain[row]) > best[0]:
                    best = float(gain[row]), number, row
        if best is None:
            break
        _, number, row = best
        rows[row] += states[number] if known is None else states[number] * known[row]
        told[number] = row
    # Several sentences may end alike: only once all of them are accounted for, little of the row is left.
    left = rows.norm(dim=1)
    return [None if row is None or left[row] > LEFT * size[row] else row for row in told]
