"""What the report of a membership run says in sentences."""

from collections.abc import Sequence

from gradwire.report.membership.findings import Finding

FIGURES = (
    "Balanced accuracy is the mean of the share of members called so and the share of others cleared, at the row's "
    "threshold. AUC is the probability that a member scores higher than another candidate, a tie counting half. TPR at "
    "1 % and 0.1 % is the share of members that are found while at most one other candidate in 100, or in 1,000, is "
    "called a member: it shows whether anybody can be named with confidence, which an average does not.",
    "A threshold is the target's mean training loss (mean-loss), chosen on a shadow model whose members are known "
    "(shadow), or chosen on the very answers that it is judged by (target): the last is what no adversary has, and "
    "overstates what one could do.",
    "ε ≥ is what canaries prove about the training, each of them in or out by a coin of its own: whatever is (ε, 0)-"
    "differentially private would not be told apart so well, at the run's confidence. Beside it stands the ε that the "
    "scheme claims, where it claims one. Other rows prove nothing of the kind: many examples of one training depend on "
    "each other.",
    "An attack on a model's answers asks the finished model, and knows nothing of the wire. An attack on the wire "
    "holds candidates' gradients against the messages: naive against the decoded update, adaptive against what was "
    "sent.",
)

LIMITS = (
    "An attack that fails proves nothing: one with more shadow models, or more rounds of the wire, may succeed. "
    "Figures are of these data, this model and this training only, and most of all of how far it overfits."
)

GUESSING = 1e-3


def headline(found: Sequence[Finding]) -> str | None:
    """The attack that names most members at one false alarm in 1,000, if more than chance; None if no row says."""
    best = _best(found)
    if best is None:
        return None
    if not best.tpr_at_1e3.low > GUESSING:
        return "At one false alarm in 1,000, no attack finds clearly more members than guessing, which finds 0.1 %"
    return (
        f"At one false alarm in 1,000, {_named(best)} finds {_share(best)} of the members of {_training(best)}; "
        "guessing finds 0.1 %"
    )


def beside(found: Sequence[Finding]) -> str | None:
    """What the same attack finds in plain training, and what the loss attack says where the headline's is better."""
    best = _best(found)
    if best is None or not best.tpr_at_1e3.low > GUESSING:
        return None
    plain = [f for f in found if f.plain and not best.plain and f.by == best.by]
    loss = [f for f in found if f.attack == "loss" != best.attack and f.name == best.name]
    said = [f"Of the members of plain training, it finds {_share(f)}." for f in plain[:1]]
    for f in loss[:1]:
        accuracy = f"{100 * f.balanced_accuracy.value:.1f} %"
        said.append(f"Of {_training(best)}, the loss attack finds {_share(f)}, at a balanced accuracy of {accuracy}.")
    return " ".join(said) or None


def _best(found: Sequence[Finding]) -> Finding | None:
    # A figure that is not known is not equal to itself.
    told = [f for f in found if f.tpr_at_1e3.value == f.tpr_at_1e3.value]
    return max(told, key=lambda f: (f.tpr_at_1e3.low > GUESSING, f.tpr_at_1e3.value), default=None)


def _named(finding: Finding) -> str:
    return " ".join(word for word in ("the", finding.knowledge, finding.attack, "attack") if word)


def _training(finding: Finding) -> str:
    return "plain training" if finding.plain else f"training with {finding.name}"


def _share(finding: Finding) -> str:
    return f"{100 * finding.tpr_at_1e3.value:.1f} %"
