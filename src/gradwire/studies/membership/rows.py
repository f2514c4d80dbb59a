"""From what is kept of one scheme's models to the rows of a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from statistics import fmean

import torch

from gradwire.attacks.membership import Answers, Signals, WireStatistics
from gradwire.metrics.membership import Membership
from gradwire.metrics.roc import Roc
from gradwire.report import MEMBERSHIP_COLUMNS
from gradwire.runs import Row
from gradwire.studies.membership.audit import audit
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.studies.membership.shadow import POPULATION, Record
from gradwire.studies.membership.shadow_experiment import ShadowExperiment
from gradwire.studies.membership.verdicts import Tapped, Verdicts, on_answers, on_wire

COLUMNS = (*MEMBERSHIP_COLUMNS, "targets", "train_accuracy", "test_accuracy", "epsilon_claimed")


def rows(common: ShadowExperiment, scheme: str, records: Sequence[Record]) -> Iterator[tuple[Row, Roc | None]]:
    """A row for every attack with every threshold on one scheme's models, and the trade-off that it is a point of."""
    settings = common.settings
    answers, aside = _answers(common, records), _signals(records, POPULATION)
    everything = {
        "data": settings.data,
        "model": settings.model,
        "scheme": scheme,
        "seed": settings.seed,
        "device": settings.device,
        **{name: fmean(float(record[name]) for record in records) for name in ("seconds", "bytes_up", "bytes_down")},
        "ratio": fmean(float(record["ratio"]) for record in records),
        "targets": len(records),
        "train_accuracy": _accuracy(answers.signals, answers.members),
        "test_accuracy": _accuracy(aside, None),
    }
    for spec, attack in settings.asks.items():
        for threshold in settings.thresholds:
            verdicts = on_answers(answers, attack, threshold)
            yield from _row(everything, settings, spec, threshold, "", verdicts)
    for spec, tap in settings.taps.items():
        for knowledge in settings.knows:
            tapped = [_tapped(record, knowledge) for record in records]
            for threshold in settings.thresholds:
                yield from _row(everything, settings, spec, threshold, knowledge, on_wire(tapped, tap, threshold))
    if settings.canaries:
        yield dict.fromkeys(COLUMNS, "") | everything | dict(audit(common, records[0])), None


def _row(
    everything: Row, settings: MembershipSettings, spec: str, threshold: str, knowledge: str, verdicts: Verdicts | None
) -> Iterator[tuple[Row, Roc | None]]:
    """The row of these verdicts; none where there are none."""
    if verdicts is None:
        return
    named = {"attack": spec, "threshold": threshold, "knowledge": knowledge, "epsilon": "", "epsilon_claimed": ""}
    found = verdicts.figures(settings.confidence, settings.seed)
    yield {**everything, **named, **_figures(found)}, found.curve


def _figures(found: Membership) -> Mapping[str, object]:
    rates = {"tpr_at_1e-2": found.tpr_at[1e-2], "tpr_at_1e-3": found.tpr_at[1e-3]}
    named = {"auc": found.auc, **rates}
    return {
        "balanced_accuracy": found.balanced_accuracy.value,
        "low": found.balanced_accuracy.low,
        "high": found.balanced_accuracy.high,
        **{name: figure.value for name, figure in named.items()},
        **{f"{name}_low": figure.low for name, figure in named.items()},
        **{f"{name}_high": figure.high for name, figure in named.items()},
        "members": found.members,
        "nonmembers": found.nonmembers,
    }


def _answers(common: ShadowExperiment, records: Sequence[Record]) -> Answers:
    """What all models say of all candidates but the canaries."""
    plain = torch.ones(len(common.pool), dtype=torch.bool)
    plain[common.canaries] = False
    signals = Signals(*(tensor[:, plain] for tensor in vars(_signals(records)).values()))
    aside = _signals(records, POPULATION)
    return Answers(signals, common.members[:, plain], common.pool.labels[plain], aside)


def _signals(records: Sequence[Record], where: str = "") -> Signals:
    """The signals of all models, shape (models, n, A)."""
    return Signals(*(torch.stack([r[where + f.name] for r in records]) for f in fields(Signals)))


def _accuracy(signals: Signals, members: torch.Tensor | None) -> float:
    """The share of images whose label is the likeliest class, as they are; of members, where they are told."""
    right = (signals.label == signals.top)[..., 0]
    return float((right if members is None else right[members]).double().mean())


def _tapped(record: Record, knowledge: str) -> Tapped:
    return Tapped(
        record["held"], WireStatistics(*(record[f"{knowledge}/{name}"] for name in ("inner", "square", "energy")))
    )
