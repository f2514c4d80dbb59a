"""From scores to verdicts: every model the target in turn, each with a threshold, and the figures of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, MembershipAttack, QueryAccess, Signals, WireAttack, WireStatistics
from gradwire.metrics import thresholds
from gradwire.metrics.membership import Membership, membership
from gradwire.studies.membership.settings import ENOUGH

RESAMPLES = 1000


@dataclass(frozen=True)
class Verdicts:
    """What an attack says of candidates, and what is true of them; one target's, or those of several in a row.

    Attributes:
        scores: float64 (n,), the higher, the likelier a member.
        limits: float64 (n,): who scores no lower is called a member.
        truth: bool (n,).
        by_class: whether classes have thresholds of their own: then the whole trade-off is relative to them.
        fixed: whether the limits were there before these scores were seen.
    """

    scores: Tensor
    limits: Tensor
    truth: Tensor
    by_class: bool
    fixed: bool

    @classmethod
    def join(cls, targets: Sequence["Verdicts"]) -> "Verdicts":
        """Those of several targets as one."""
        scores, limits, truth = (
            torch.cat(c) for c in zip(*((t.scores, t.limits, t.truth) for t in targets), strict=True)
        )
        return cls(scores, limits, truth, targets[0].by_class, targets[0].fixed)

    def figures(self, confidence: float, seed: int) -> Membership:
        """How well they tell members from non-members.

        Answers of all targets are taken together and as independent of each other, which those of different models to
        one candidate are not quite: intervals are a little too narrow for that.
        """
        return membership(self.scores, self.truth, self.limits, self.fixed, self.by_class, confidence, RESAMPLES, seed)


def on_answers(answers: Answers, attack: MembershipAttack, threshold: str) -> Verdicts | None:
    """The verdicts of an attack on the answers of each model in turn; None where there is no such threshold for it.

    For attacks that need shadows, candidates which too few of the other models were trained with, or without, are left
    out for that target: a choice on which the target itself has no influence.
    """
    found = []
    for target in range(len(answers.signals)):
        evidence, truth = _suited(answers, target, attack).against(target)
        scores = attack.scores(evidence)
        limits = _limits(attack, evidence, scores, truth, threshold)
        if limits is None:
            return None
        found.append(Verdicts(scores, limits, truth, attack.by_class, threshold != "target"))
    return Verdicts.join(found)


@dataclass(frozen=True)
class Tapped:
    """What was heard of one model's training.

    Attributes:
        held: bool (V, w): which candidates each victim had in its batches.
        traces: of the rounds heard.
    """

    held: Tensor
    traces: WireStatistics

    def scores(self, attack: WireAttack) -> tuple[Tensor, Tensor]:
        """The attack's scores against each victim, and the truth; another victim's examples are neither in nor out."""
        unused, scores, truth = ~self.held.any(0), [], []
        for victim, held in enumerate(self.held):
            asked = held | unused
            scores.append(attack.scores(self.traces, victim)[asked])
            truth.append(held[asked])
        return torch.cat(scores), torch.cat(truth)


def on_wire(tapped: Sequence[Tapped], attack: WireAttack, threshold: str) -> Verdicts | None:
    """The verdicts of an attack on the wire of each model's training in turn.

    The threshold is that of the next model's training ("shadow") or chosen on the answers ("target"); no loss sets one.
    Nor is there a verdict of an attack on several clients' messages where a scheme shows their sum alone.
    """
    if threshold == "mean-loss" or any(len(one.held) < attack.clients for one in tapped):
        return None
    each = [one.scores(attack) for one in tapped]
    found = []
    for target, (scores, truth) in enumerate(each):
        rehearsed = each[(target + 1) % len(each)] if threshold == "shadow" else (scores, truth)
        limits = torch.full_like(scores, thresholds.best(*rehearsed))
        found.append(Verdicts(scores, limits, truth, False, threshold != "target"))
    return Verdicts.join(found)


def _suited(answers: Answers, target: int, attack: MembershipAttack) -> Answers:
    """The answers on candidates that the attack has enough shadows for."""
    if not attack.shadows:
        return answers
    inside = answers.members.sum(0) - answers.members[target].long()
    outside = len(answers.members) - 1 - inside
    keep = (inside >= ENOUGH) & (outside >= ENOUGH)
    kept = Signals(*(tensor[:, keep] for tensor in vars(answers.signals).values()))
    return replace(answers, signals=kept, members=answers.members[:, keep], labels=answers.labels[keep])


def _limits(
    attack: MembershipAttack, evidence: QueryAccess, scores: Tensor, truth: Tensor, threshold: str
) -> Tensor | None:
    """Each candidate's threshold, float64 (n,)."""
    if threshold == "mean-loss":
        limit = None if evidence.train_loss is None else attack.at_loss(evidence.train_loss)
        return None if limit is None else torch.full_like(scores, limit)
    labels = evidence.labels
    if threshold == "shadow":
        rehearsed, truth = evidence.rehearsal()
        scores = attack.scores(rehearsed)
    if attack.by_class:
        return thresholds.best_by_class(scores, truth, labels)[labels]
    return torch.full(labels.shape, thresholds.best(scores, truth), dtype=torch.float64)
