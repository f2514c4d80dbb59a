"""The entries of a table, from the records of one scheme's models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from statistics import fmean

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, Signals
from gradwire.metrics import Scored
from gradwire.metrics.epsilon import one_run_bound
from gradwire.report import MEMBERSHIP_COLUMNS
from gradwire.runs import Row
from gradwire.studies.membership.canaries import adjacency
from gradwire.studies.membership.evidence import Entry
from gradwire.studies.membership.shadow_batches import POPULATION, ShadowRecord
from gradwire.studies.membership.shadow_experiment import ShadowExperiment
from gradwire.studies.membership.verdicts import judged, on_answers, on_wire

HEALTH = tuple(f"{half}_accuracy{end}" for half in ("train", "test") for end in ("", "_low", "_high"))
COLUMNS = (*MEMBERSHIP_COLUMNS, "targets", *HEALTH, "epsilon_claimed", "adjacency")


def facts(experiment: ShadowExperiment, scheme: str, records: Sequence[ShadowRecord]) -> Row:
    """What all rows of a scheme have in common: what it costs, and how well its models learned."""
    settings, plain = experiment.settings, experiment.plain
    train = _accuracies(_signals(records), experiment.members & plain)
    return {
        **dict.fromkeys(COLUMNS, ""),
        **{name: getattr(settings, name) for name in ("data", "model", "seed", "device")},
        **{name: fmean(float(r[name]) for r in records) for name in ("seconds", "bytes_up", "bytes_down", "ratio")},
        "scheme": scheme,
        "targets": len(records),
        **health("train", train),
        **health("test", _accuracies(_signals(records, POPULATION))),
    }


def health(half: str, accuracies: Sequence[float]) -> Row:
    """The columns of models' accuracies on their members ("train") or on others ("test"): mean, lowest, highest."""
    told = (fmean(accuracies), min(accuracies), max(accuracies)) if accuracies else ("", "", "")
    return dict(zip((f"{half}_accuracy", f"{half}_accuracy_low", f"{half}_accuracy_high"), told, strict=True))


def entries(
    experiment: ShadowExperiment, scheme: str, records: Sequence[ShadowRecord]
) -> tuple[list[Entry], list[str]]:
    """An entry for every attack with every threshold on one scheme's models, and what the attacks could not judge.

    All entries on the models' answers are about the same pairs of a model and a candidate; all those on the wire, about
    the same as well.
    """
    settings, shared = experiment.settings, facts(experiment, scheme, records)
    answers = Answers(_signals(records), experiment.members, experiment.pool.targets, _signals(records, POPULATION)).of(
        experiment.plain
    )
    attacks = settings.query_attacks
    asked = judged(answers, list(attacks.values()), "shadow" in settings.thresholds)
    found, left_out = [], []
    if attacks and (lost := int((~asked).sum())):
        few = "had too few other models with the candidate, or without it, for some attack"
        left_out.append(f"{scheme}: {lost} of {asked.numel()} pairs of model and candidate {few}, and were left out.")

    def add(spec: str, knowledge: str, scored: Mapping[str, Scored]) -> None:
        for threshold, each in scored.items():
            found.append(Entry({**shared, "attack": spec, "threshold": threshold, "knowledge": knowledge}, each))

    for spec, attack in attacks.items():
        add(spec, "", on_answers(answers, attack, settings.thresholds, asked))
    for (spec, wire), knowledge in product(settings.wire_attacks.items(), settings.knows):
        add(spec, knowledge, on_wire(records, knowledge, wire, settings.thresholds, len(experiment.pool)))
    return found, left_out


def spread(scheme: str, shared: Row, most: float = 0.1) -> Iterator[str]:
    """A warning where models of one scheme differ so much that attacks that compare them are hurt."""
    for half in ("train", "test"):
        low, high = shared[f"{half}_accuracy_low"], shared[f"{half}_accuracy_high"]
        if low != "" and high - low > most:
            yield (
                f"Under {scheme}, models differ: their {half} accuracies lie between {low:.2f} and {high:.2f}. Attacks "
                "that compare a model with its shadows are weaker than they would be with shadows like it."
            )


def audit(experiment: ShadowExperiment, shared: Row, record: ShadowRecord) -> Row:
    """A row: a lower bound on ε from the first model's answers on its canaries.

    T. Steinke, M. Nasr, M. Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, algorithm 1, in the
    black-box setting: the quarter of the canaries of which the model is surest (by log p_y / (1 − p_y)) are guessed to
    be in, the quarter of which it is least sure to be out, and no guess is made on the others. The number of guesses is
    fixed before the run, so that the bound holds at its confidence. Balanced accuracy is the share of right guesses.

    Where the scheme guarantees an ε, that is `epsilon_claimed` and the bound is at its δ; else the bound is at δ = 0.
    Both are about the neighbours of which canaries tell (`canaries.adjacency`).
    """
    settings, canaries = experiment.settings, experiment.canaries
    included = experiment.members[0, canaries]
    order = record["label"][canaries, 0].argsort(stable=True)
    each = max(1, len(canaries) // 4)
    right = int(included[order[-each:]].sum() + (~included[order[:each]]).sum())
    return {
        **shared,
        "attack": f"one-run:{settings.canaries}",
        "threshold": "fixed",
        "targets": 1,
        "balanced_accuracy": right / (2 * each),
        "members": int(included.sum()),
        "nonmembers": int((~included).sum()),
        "epsilon": one_run_bound(len(canaries), 2 * each, right, settings.confidence, float(record.get("delta", 0.0))),
        "epsilon_claimed": float(record["epsilon"]) if "epsilon" in record else "",
        "adjacency": adjacency(settings.sampling),
    }


def _signals(records: Sequence[ShadowRecord], where: str = "") -> Signals:
    """The signals of all models, shape (models, n, A)."""
    known = [f.name for f in fields(Signals) if where + f.name in records[0]]
    return Signals(**{name: torch.stack([r[where + name] for r in records]) for name in known})


def _accuracies(signals: Signals, members: Tensor | None = None) -> list[float]:
    """Each model's share of examples, or of its members alone, whose label is the likeliest class; none without them.

    Augmentations do not count.
    """
    if signals.top is None:
        return []
    right = (signals.label == signals.top)[..., 0].double()
    if members is None:
        return right.mean(1).tolist()
    return [float(row[own].mean()) for row, own in zip(right, members, strict=True)]
