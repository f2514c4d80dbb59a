"""The membership run: schemes × attacks × thresholds, from shadow models that are trained as the target is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean

import torch

from gradwire.attacks.membership import Answers, Signals, Traces
from gradwire.errors import GradwireError
from gradwire.metrics.membership import Membership
from gradwire.studies.membership.audit import audit
from gradwire.studies.membership.ground import Ground, ground
from gradwire.studies.membership.lots import grow, harvest
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.studies.membership.shadow import POPULATION, Record
from gradwire.studies.membership.verdicts import Tapped, Verdicts, on_answers, on_wire
from gradwire.studies.run import Progress, Row, RunFolder, silent

_COMMON = ("data", "model", "scheme", "seed", "device", "seconds", "bytes_up", "bytes_down", "ratio")
COLUMNS = (
    *_COMMON,
    *("attack", "threshold", "knowledge", "balanced_accuracy", "auc", "tpr_at_1e-2", "tpr_at_1e-3", "low", "high"),
    *("members", "nonmembers", "targets", "auc_low", "auc_high", "tpr_at_1e-2_low", "tpr_at_1e-2_high"),
    *("tpr_at_1e-3_low", "tpr_at_1e-3_high", "epsilon", "epsilon_claimed", "train_accuracy", "test_accuracy"),
)


def run_membership(
    settings: MembershipSettings,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Path:
    """Train the shadows, attack every model in turn, and return the folder: results.csv, config.json, shadows/.

    A row is one attack with one threshold on all models of a scheme, its figures taken over all targets together; `low`
    and `high` are the interval of its balanced accuracy. Seconds are those of training one model; bytes, those of one
    client in one round. Rows reach the disk scheme by scheme.

    Args:
        out: the folder to write; `resume`: the folder of a run that was interrupted, to go on with instead: models
            that are finished stay.
        jobs: see `lots.grow`; it changes nothing but the time.

    Raises:
        GradwireError: settings that the data do not suit, a folder that cannot be written or holds another run.
    """
    if out and resume:
        raise GradwireError("--out and --resume exclude each other: a resumed run writes where it wrote before")
    if jobs < 1:
        raise GradwireError(f"jobs is {jobs}; it must be at least 1")
    common, options = ground(settings), asdict(settings)
    if resume:
        run = RunFolder(Path(resume), COLUMNS)
        run.check("membership", options)
    else:
        run = RunFolder.create(out, "membership", COLUMNS)
        run.configure("membership", options)
    rows: list[Row] = []
    notes: dict[str, None] = {}
    for index in range(len(settings.schemes)):
        grow(settings, run.path, index, jobs, progress)
        records = harvest(settings, run.path, index)
        rows += _rows(common, settings.schemes[index], records)
        run.rewrite(rows)
        notes |= dict.fromkeys(_notes(common))
    run.configure("membership", options, notes)
    return run.path


def _rows(common: Ground, scheme: str, records: Sequence[Record]) -> Iterator[Row]:
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
        yield dict.fromkeys(COLUMNS, "") | everything | dict(audit(common, scheme, records[0]))


def _row(
    everything: Row, settings: MembershipSettings, spec: str, threshold: str, knowledge: str, verdicts: Verdicts | None
) -> Iterator[Row]:
    """The row of these verdicts; none where there are none."""
    if verdicts is None:
        return
    named = {"attack": spec, "threshold": threshold, "knowledge": knowledge, "epsilon": "", "epsilon_claimed": ""}
    yield {**everything, **named, **_figures(verdicts.figures(settings.confidence, settings.seed))}


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


def _answers(common: Ground, records: Sequence[Record]) -> Answers:
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
    return Tapped(record["held"], Traces(*(record[f"{knowledge}/{name}"] for name in ("inner", "square", "energy"))))


def _notes(common: Ground) -> Iterator[str]:
    """What has to be said beside the table."""
    settings = common.settings
    yield (
        f"Each of {settings.shadows} models was trained for {common.rounds} rounds on a random half of "
        f"{len(common.pool)} candidates, and was the target once, with the others for its shadows."
    )
    yield "Answers of all targets are taken together, those of different models to one candidate as independent."
    if settings.taps:
        yield (
            f"On the wire, the last {settings.watched} rounds were heard: members were in a victim's batches of these, "
            "non-members nowhere in the training."
        )
