"""What an attack finds with a threshold: every model is the target in turn, and figures are those of all targets.

Answers of different models on one candidate are taken as independent, which they are not quite, so that intervals are a
little too narrow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, MembershipAttack, QueryAccess, WireAttack, WireStatistics
from gradwire.metrics import thresholds
from gradwire.metrics.membership import Membership, membership
from gradwire.studies.membership.settings import ENOUGH, MembershipSettings
from gradwire.studies.membership.shadow_batches import ShadowRecord

Verdict = tuple[Tensor, Tensor, Tensor]
"""On one target's candidates: scores, float64 (n,); who is a member, bool (n,); the threshold of each, float64 (n,)."""


def on_answers(
    settings: MembershipSettings, answers: Answers, attack: MembershipAttack, threshold: str
) -> Membership | None:
    """An attack on the answers of each model; None where the attack has no such threshold.

    For an attack that needs shadows, candidates with fewer than `ENOUGH` of them, in or out, are left out: the target
    itself has no influence on that choice.
    """
    found = []
    for target, own in enumerate(answers.members):
        suited = answers
        if attack.shadows:
            inside = answers.members.sum(0) - own.long()
            suited = answers.of((inside >= ENOUGH) & (len(answers.members) - 1 - inside >= ENOUGH))
        access, truth = suited.against(target)
        scores = attack.scores(access)
        if (limits := _limits(attack, access, scores, truth, threshold)) is None:
            return None
        found.append((scores, truth, limits))
    return _figures(settings, found, threshold, attack.by_class)


def on_wire(
    settings: MembershipSettings, records: Sequence[ShadowRecord], knowledge: str, attack: WireAttack, threshold: str
) -> Membership | None:
    """An attack on the wire of each model's training.

    The threshold is that of the next model's training ("shadow") or is chosen on the target itself ("target"). None
    for "mean-loss", and for an attack on several clients' messages where a scheme shows their sum alone.
    """
    if threshold == "mean-loss" or any(len(record["held"]) < attack.clients for record in records):
        return None
    each = [_wire_scores(record, knowledge, attack) for record in records]
    found = []
    for target, (scores, truth) in enumerate(each):
        chosen_on = each[(target + 1) % len(each)] if threshold == "shadow" else (scores, truth)
        found.append((scores, truth, torch.full_like(scores, thresholds.best(*chosen_on))))
    return _figures(settings, found, threshold)


def _figures(
    settings: MembershipSettings, targets: Sequence[Verdict], threshold: str, by_class: bool = False
) -> Membership:
    scores, truth, limits = (torch.cat(column) for column in zip(*targets, strict=True))
    fixed = threshold != "target"
    return membership(scores, truth, limits, fixed, by_class, settings.confidence, seed=settings.seed)


def _limits(
    attack: MembershipAttack, access: QueryAccess, scores: Tensor, truth: Tensor, threshold: str
) -> Tensor | None:
    """Each candidate's threshold, float64 (n,)."""
    if threshold == "mean-loss":
        limit = None if access.train_loss is None else attack.at_loss(access.train_loss)
        return None if limit is None else torch.full_like(scores, limit)
    if threshold == "shadow":
        rehearsed, truth = access.rehearsal()
        scores = attack.scores(rehearsed)
    if attack.by_class:
        return thresholds.best_by_class(scores, truth, access.labels)[access.labels]
    return torch.full((len(access.labels),), thresholds.best(scores, truth), dtype=torch.float64)


def _wire_scores(record: ShadowRecord, knowledge: str, attack: WireAttack) -> tuple[Tensor, Tensor]:
    """The attack's scores against each victim, and the truth; another victim's examples are left out."""
    statistics = WireStatistics(*(record[f"{knowledge}/{name}"] for name in ("inner", "square", "energy")))
    unused, scores, truth = ~record["held"].any(0), [], []
    for victim, held in enumerate(record["held"]):
        asked = held | unused
        scores.append(attack.scores(statistics, victim)[asked])
        truth.append(held[asked])
    return torch.cat(scores), torch.cat(truth)
