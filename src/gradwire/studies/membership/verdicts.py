"""Verdicts from scores: every model is the target in turn, each with a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, MembershipAttack, QueryAccess, WireAttack, WireStatistics
from gradwire.metrics import thresholds
from gradwire.metrics.membership import Membership, membership
from gradwire.studies.membership.settings import ENOUGH


@dataclass(frozen=True)
class Verdicts:
    """What an attack says of the candidates of all targets, and the truth.

    Attributes:
        scores: float64 (n,), the higher, the likelier a member.
        limits: float64 (n,): a candidate that scores no lower is called a member.
        truth: bool (n,).
        by_class: whether classes have thresholds of their own: then the whole trade-off is relative to them.
        fixed: whether the limits were there before these scores were seen.
    """

    scores: Tensor
    limits: Tensor
    truth: Tensor
    by_class: bool
    fixed: bool

    def figures(self, confidence: float, seed: int) -> Membership:
        """How well the verdicts tell members from non-members.

        Answers of different models on one candidate are taken as independent, which they are not quite, so that
        intervals are a little too narrow.
        """
        scores, truth, limits = self.scores, self.truth, self.limits
        return membership(scores, truth, limits, self.fixed, self.by_class, confidence, seed=seed)


def on_answers(answers: Answers, attack: MembershipAttack, threshold: str) -> Verdicts | None:
    """The verdicts of an attack on the answers of each model; None where the attack has no such threshold.

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
        limits = _limits(attack, access, scores, truth, threshold)
        if limits is None:
            return None
        found.append((scores, limits, truth))
    return _joined(found, attack.by_class, threshold)


@dataclass(frozen=True)
class Observed:
    """What was heard of one model's training.

    Attributes:
        held: bool (V, w): which candidates each victim had in its batches.
        statistics: of the rounds heard.
    """

    held: Tensor
    statistics: WireStatistics

    def scores(self, attack: WireAttack) -> tuple[Tensor, Tensor]:
        """The attack's scores against each victim, and the truth; another victim's examples are left out."""
        unused, scores, truth = ~self.held.any(0), [], []
        for victim, held in enumerate(self.held):
            asked = held | unused
            scores.append(attack.scores(self.statistics, victim)[asked])
            truth.append(held[asked])
        return torch.cat(scores), torch.cat(truth)


def on_wire(observed: Sequence[Observed], attack: WireAttack, threshold: str) -> Verdicts | None:
    """The verdicts of an attack on the wire of each model's training.

    The threshold is that of the next model's training ("shadow") or is chosen on the target itself ("target"). None
    for "mean-loss", and for an attack on several clients' messages where a scheme shows their sum alone.
    """
    if threshold == "mean-loss" or any(len(one.held) < attack.clients for one in observed):
        return None
    each = [one.scores(attack) for one in observed]
    found = []
    for target, (scores, truth) in enumerate(each):
        chosen_on = each[(target + 1) % len(each)] if threshold == "shadow" else (scores, truth)
        found.append((scores, torch.full_like(scores, thresholds.best(*chosen_on)), truth))
    return _joined(found, False, threshold)


def _joined(targets: Sequence[tuple[Tensor, Tensor, Tensor]], by_class: bool, threshold: str) -> Verdicts:
    scores, limits, truth = (torch.cat(column) for column in zip(*targets, strict=True))
    return Verdicts(scores, limits, truth, by_class, threshold != "target")


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
    return torch.full(access.labels.shape, thresholds.best(scores, truth), dtype=torch.float64)
