"""The rows of a table, from the records of one scheme's models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from itertools import product
from statistics import fmean

import torch

from gradwire.attacks.membership import Answers, Signals
from gradwire.metrics.epsilon import one_run_bound
from gradwire.metrics.membership import Membership
from gradwire.metrics.roc import Roc
from gradwire.report import MEMBERSHIP_COLUMNS
from gradwire.runs import Row
from gradwire.studies.membership.canaries import adjacency
from gradwire.studies.membership.shadow_batches import POPULATION, ShadowRecord
from gradwire.studies.membership.shadow_experiment import ShadowExperiment
from gradwire.studies.membership.verdicts import on_answers, on_wire

COLUMNS = (*MEMBERSHIP_COLUMNS, "targets", "train_accuracy", "test_accuracy", "epsilon_claimed", "adjacency")


def rows(
    experiment: ShadowExperiment, scheme: str, records: Sequence[ShadowRecord]
) -> Iterator[tuple[Row, Roc | None]]:
    """A row for every attack with every threshold on one scheme's models, and the trade-off that it is a point of."""
    settings, population = experiment.settings, _signals(records, POPULATION)
    everyone = Answers(_signals(records), experiment.members, experiment.pool.targets, population)
    answers = everyone.of(experiment.plain)
    shared: dict[str, object] = dict.fromkeys(COLUMNS, "") | {
        **{name: getattr(settings, name) for name in ("data", "model", "seed", "device")},
        **{name: fmean(float(r[name]) for r in records) for name in ("seconds", "bytes_up", "bytes_down", "ratio")},
        "scheme": scheme,
        "targets": len(records),
        "train_accuracy": _accuracy(answers.signals, answers.members),
        "test_accuracy": _accuracy(population),
    }

    tried: list[tuple[str, str, Callable[[str], Membership | None]]] = [
        (spec, "", partial(on_answers, settings, answers, attack)) for spec, attack in settings.query_attacks.items()
    ]
    for (spec, wire), knowledge in product(settings.wire_attacks.items(), settings.knows):
        tried.append((spec, knowledge, partial(on_wire, settings, records, knowledge, wire)))
    for (spec, knowledge, run), threshold in product(tried, settings.thresholds):
        if (found := run(threshold)) is not None:
            named = {"attack": spec, "threshold": threshold, "knowledge": knowledge}
            yield shared | named | _figures(found), found.curve
    if settings.canaries:
        yield shared | _audit(experiment, records[0]), None


def _figures(found: Membership) -> dict[str, object]:
    figures = {"auc": found.auc, "tpr_at_1e-2": found.tpr_at[1e-2], "tpr_at_1e-3": found.tpr_at[1e-3]}
    columns: dict[str, object] = {"members": found.members, "nonmembers": found.nonmembers}
    for name, figure in figures.items():
        columns |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    accuracy = found.balanced_accuracy
    return columns | {"balanced_accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}


def _signals(records: Sequence[ShadowRecord], where: str = "") -> Signals:
    """The signals of all models, shape (models, n, A)."""
    known = [f.name for f in fields(Signals) if where + f.name in records[0]]
    return Signals(**{name: torch.stack([r[where + name] for r in records]) for name in known})


def _accuracy(signals: Signals, members: torch.Tensor | None = None) -> float | str:
    """The share of examples, or of members alone, whose label is the likeliest class; "" where there are none.

    Augmentations do not count.
    """
    if signals.top is None:
        return ""
    right = (signals.label == signals.top)[..., 0]
    return float((right if members is None else right[members]).double().mean())


def _audit(experiment: ShadowExperiment, record: ShadowRecord) -> dict[str, object]:
    """Columns of a row: a lower bound on ε from the first model's answers on its canaries.

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
