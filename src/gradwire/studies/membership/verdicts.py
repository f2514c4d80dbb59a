"""An attack's scores against every model in turn, each with the others for its shadows, and its thresholds."""

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, MembershipAttack, QueryAccess, WireAttack, WireStatistics
from gradwire.metrics import Scored, thresholds
from gradwire.studies.membership.settings import needs
from gradwire.studies.membership.shadow_batches import ShadowRecord


def judged(answers: Answers, attacks: Sequence[MembershipAttack], rehearsed: bool) -> Tensor:
    """The pairs that every one of these attacks can judge, bool (M, N): those with enough other models in and out.

    Args:
        rehearsed: whether thresholds are found on a shadow, which takes one more.
    """
    inside = answers.members.sum(0) - answers.members.long()
    outside = len(answers.members) - 1 - inside
    wanted = [needs(attack, rehearsed) for attack in attacks]
    enough = [(inside >= with_it) & (outside >= without) for with_it, without in wanted]
    return reduce(torch.logical_and, enough, torch.ones_like(answers.members))


def on_answers(
    answers: Answers, attack: MembershipAttack, kinds: Sequence[str], asked: Tensor, there: Tensor | None = None
) -> Mapping[str, Scored]:
    """An attack on the answers of each model: kind of threshold → its scores, where it has such thresholds.

    Args:
        asked: the pairs that are judged, bool (M, N); models of which none is are shadows alone.
        there: the pairs that have answers; all of them if None.
    """
    there = torch.ones_like(asked) if there is None else there
    targets = asked.any(1).nonzero().squeeze(1)
    scores = torch.full(answers.members.shape, torch.nan, dtype=torch.float64)
    limits = {kind: scores.clone() for kind in kinds}
    # An attack without shadows judges every candidate: its thresholds are found on all of them.
    for target in targets.tolist():
        own = (asked if attack.sorts else there)[target]
        access, truth = answers.of(own).against(target)
        scores[target, own] = attack.scores(access)
        for kind in list(limits):
            chosen = _limits(attack, access, scores[target, own], truth, kind)
            if chosen is None:
                del limits[kind]
            else:
                limits[kind][target, own] = chosen
    found = {}
    for kind, chosen in limits.items():
        # Where each class has its threshold, candidates are ranked by how far they are above it.
        ranked = (scores - chosen, 0.0) if attack.by_class else (scores, chosen)
        limit = torch.as_tensor(ranked[1]).expand(scores.shape)[targets]
        found[kind] = Scored.of(ranked[0][targets], answers.members[targets], asked[targets], limit)
    return found


def on_wire(
    records: Sequence[ShadowRecord], knowledge: str, attack: WireAttack, kinds: Sequence[str], candidates: int
) -> Mapping[str, Scored]:
    """An attack on the wire of each model's training: kind of threshold → its scores, a row a victim.

    The threshold is that of the next model's training ("shadow") or is chosen on the target itself ("target"). There is
    none at the mean loss, nor for an attack on several clients' messages where a scheme shows their sum alone.

    Args:
        candidates: how many examples the models' candidates are numbered in.
    """
    if any(len(record["held"]) < attack.clients for record in records):
        return {}
    each = [_wire_scores(record, knowledge, attack, candidates) for record in records]
    scores, members, asked = (torch.cat(column) for column in zip(*each, strict=True))
    best = torch.tensor([thresholds.best(s[a], m[a]) for s, m, a in each])
    victims = torch.tensor([len(s) for s, _, _ in each])
    found = {}
    for kind in kinds:
        if kind != "mean-loss":
            limits = (best.roll(-1) if kind == "shadow" else best).repeat_interleave(victims)[:, None]
            models = torch.arange(len(each)).repeat_interleave(victims)
            found[kind] = Scored.of(scores, members, asked, limits, models)
    return found


def _limits(
    attack: MembershipAttack, access: QueryAccess, scores: Tensor, truth: Tensor, kind: str
) -> Tensor | float | None:
    """The threshold, or each candidate's, float64 (n,); None where the attack has no such threshold."""
    if kind == "mean-loss":
        return None if access.train_loss is None else attack.at_loss(access.train_loss)
    if kind == "none":
        return None if attack.by_class else torch.inf
    if kind == "shadow":
        rehearsed, truth = access.rehearsal()
        scores = attack.scores(rehearsed)
    if attack.by_class:
        return thresholds.best_by_class(scores, truth, access.labels)[access.labels]
    return thresholds.best(scores, truth)


def _wire_scores(
    record: ShadowRecord, knowledge: str, attack: WireAttack, candidates: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The attack's scores against each victim, the truth, and the pairs judged: no other victim's examples; (V, N)."""
    statistics = WireStatistics(*(record[f"{knowledge}/{name}"] for name in ("inner", "square", "energy")))
    held, where = record["held"].bool(), record["candidates"]
    scores = torch.full((len(held), candidates), torch.nan, dtype=torch.float64)
    members, asked = (torch.zeros(scores.shape, dtype=torch.bool) for _ in range(2))
    scores[:, where] = torch.stack([attack.scores(statistics, victim) for victim in range(len(held))])
    members[:, where], asked[:, where] = held, held | ~held.any(0)
    return scores, members, asked
