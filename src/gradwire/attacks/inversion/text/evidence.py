"""The tokens that a batch holds, from the rows of the embedding and of the head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.text.embedding import Embeddings, LookupTable, on_the_wire, text_domain
from gradwire.attacks.inversion.text.rows import Rows, read
from gradwire.models.mode import copied, logits, set_mode
from gradwire.seeds import generator

SENTENCES, WORDS = 64, 24
"""Sentences of tokens at random, and their length, over which the network's mean prediction is taken."""
AGAIN = 3
"""How often the tokens that occur, and what the head leaves in the rows of the others, are found from one another."""
GAP = 2.0
"""A token that is only a target stands out if its row is so many times as long as the next one."""


@dataclass(frozen=True)
class Evidence:
    """The tokens of one victim's batch.

    Attributes:
        tokens: those found, int64, the surest first, without padding and what every sentence holds anyway.
        looked_up: those of them that were inputs; the others were targets only. Of tied tables nobody can tell: all.
        rows: what is known of the tokens' table.
        notes: how they were found.
    """

    tokens: Tensor
    looked_up: Tensor
    rows: Rows
    notes: tuple[str, ...]


def evidence(problem: Problem, embeddings: Embeddings, attack: str, distinct: int = 0, seed: int = 0) -> Evidence:
    """Find the tokens of a batch.

    Args:
        distinct: how many different ones there are, where the adversary is assumed to know; 0: it is not.

    Raises:
        GradwireError: the domain is no text, or the embedding's gradient is not sent.
    """
    view, table = problem.view, on_the_wire(embeddings, attack)
    domain = text_domain(view.task, attack)
    width = view.model.get_parameter(table.parameter).shape[1]
    rows = read(problem.measurement.get(table.parameter, ()), (table.rows, width), problem.deviation)
    most = view.shape[0] * view.shape[1]
    told = [token for token in (domain.pad, domain.first, domain.last) if token is not None]
    strength, notes = rows.strength.clone(), []
    if embeddings.tied:
        strength, how = _tied(problem, rows, distinct, (_fewest(problem, embeddings.positions), most), seed)
        notes.append(how)
    strength[len(domain.vocabulary) :] = 0
    strength[told] = 0
    # Rows of equal strength are in no order, least of all that of the vocabulary, which is by frequency.
    order = torch.randperm(len(strength), generator=generator("tokens", seed))
    order = order[strength[order].argsort(descending=True, stable=True)]
    looked_up = order[strength[order] > 0][: distinct or most]
    targets = torch.empty(0, dtype=torch.int64)
    if view.task.loss.from_inputs and not embeddings.tied and embeddings.head is not None and embeddings.head.sent:
        targets = _targets(problem, embeddings.head, looked_up, told, seed)
    tokens = torch.cat([looked_up, targets])[:most]
    return Evidence(tokens, tokens if embeddings.tied else looked_up, rows, tuple(notes))


def _fewest(problem: Problem, positions: LookupTable | None) -> int:
    """How many different tokens there are at least: half as many as the longest sentence has places."""
    if positions is None or not positions.sent:
        return 1
    shape = problem.view.model.get_parameter(positions.parameter).shape
    rows = read(problem.measurement.get(positions.parameter, ()), (shape[0], shape[1]), problem.deviation)
    return max(1, len(rows.active) // 2)


def _tied(problem: Problem, rows: Rows, distinct: int, bounds: tuple[int, int], seed: int) -> tuple[Tensor, str]:
    """The strength of each row less what the head leaves in it, zero where a token is held not to occur.

    Args:
        bounds: how many different tokens there are at least and at most.
    """
    count = distinct
    strength = rows.strength
    for _ in range(AGAIN):
        count = distinct or _before_gap(strength, *bounds)
        found = strength.topk(min(count, len(strength))).indices
        absent = torch.ones_like(strength, dtype=torch.bool).index_fill_(0, found, False)
        strength = rows.beside(_prediction(problem, found, seed), absent).strength
    count = distinct or _before_gap(strength, *bounds)
    found = strength.topk(min(count, len(strength))).indices
    kept = torch.zeros_like(strength).index_put_((found,), strength[found])
    known = "which is assumed to be known" if distinct else "by the largest gap between rows"
    return kept, f"the head's matrix is the tokens': the {count} rows that stand out most are taken, {known}"


def _targets(problem: Problem, head: LookupTable, looked_up: Tensor, told: list[int], seed: int) -> Tensor:
    """Tokens that were targets only, at most one a sentence: those whose rows of the head stand out."""
    shape = problem.view.model.get_parameter(head.parameter).shape
    rows = read(problem.measurement.get(head.parameter, ()), (shape[0], shape[1]), problem.deviation)
    if not bool(rows.strength.any()) or not len(looked_up):
        return looked_up[:0]
    others = torch.ones(shape[0], dtype=torch.bool)
    others[torch.cat([looked_up, torch.tensor(told, dtype=torch.int64)])] = False
    strength = rows.beside(_prediction(problem, looked_up, seed), others).strength.masked_fill(~others, 0)
    values, order = strength.topk(min(problem.view.shape[0] + 1, len(strength)))
    ratio = values[:-1] / values[1:].clamp_min(1e-30)
    return order[: int(ratio.argmax()) + 1] if len(ratio) and float(ratio.max()) > GAP else order[:0]


def _before_gap(strength: Tensor, fewest: int, most: int) -> int:
    """How many rows come before the largest gap in the logarithm of their strength, within bounds."""
    values = strength.sort(descending=True).values[: most + 1].clamp_min(1e-30).log()
    gaps = (values[:-1] - values[1:])[fewest - 1 :]
    return fewest + int(gaps.argmax()) if len(gaps) else min(fewest, len(strength))


def _prediction(problem: Problem, found: Tensor, seed: int) -> Tensor:
    """The network's mean probability of each token behind sentences of these tokens at random, (n,)."""
    view = problem.view
    network: nn.Module = set_mode(copied(view.model), "eval")
    device = next(network.parameters()).device
    length = min(WORDS, view.task.domain.shape[0])
    places = torch.randint(len(found), (SENTENCES, length), generator=generator("prediction", seed))
    with torch.no_grad():
        scores = logits(view.task.output(network, found[places].to(device)))
    return scores.float().softmax(-1).flatten(0, -2).mean(0).cpu()
