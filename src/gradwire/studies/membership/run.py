"""The membership run: schemes × attacks × thresholds, with shadow models that are trained as the target is."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from gradwire.errors import at_least
from gradwire.progress import Progress, silent
from gradwire.runs import Row, RunFolder, check_place
from gradwire.studies.audit import described
from gradwire.studies.membership.evidence import Entry, figures
from gradwire.studies.membership.publish import publish
from gradwire.studies.membership.rows import COLUMNS, audit, entries, facts, spread
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.studies.membership.shadow_batches import load_shadows, train_shadows
from gradwire.studies.membership.shadow_experiment import ShadowExperiment, shadow_experiment


def run_membership(
    settings: MembershipSettings,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Path:
    """Train the shadows, attack every model in turn, and return the folder.

    The folder holds what `publish` writes, and the models' answers in shadows/. A row is one attack with one threshold
    on all models of a scheme, its figures taken over all targets together; `low` and `high` are the interval of its
    balanced accuracy. Seconds are those of training one model; bytes, those of one client in one round. Rows reach the
    disk scheme by scheme; what they find is told at the end, for it is told of the whole table.

    Args:
        out: the folder to write; `resume`: that of an interrupted run to go on with, whose finished models stay.
        jobs: shadow batches at a time, which changes only the time (see `train_shadows`).

    Raises:
        GradwireError: settings that the data do not suit, a folder that cannot be written or holds another run.
    """
    check_place(out, resume)
    at_least(1, jobs=jobs)
    experiment = shadow_experiment(settings)
    settings = experiment.settings
    run = RunFolder.begin(out, resume, "membership", COLUMNS, asdict(settings))
    options = asdict(settings) | {"domain": described(experiment.pool.task)}
    if not resume:
        run.configure("membership", options)
    made: list[Entry] = []
    others: list[Row] = []
    said = list(_notes(experiment))
    for index, scheme in enumerate(settings.schemes):
        train_shadows(settings, run.path, index, jobs, progress)
        records = load_shadows(settings, run.path, index)
        shared = facts(experiment, scheme, records)
        found, left_out = entries(experiment, scheme, records)
        made += found
        said += [*left_out, *spread(scheme, shared)]
        if settings.canaries:
            others.append(audit(experiment, shared, records[0]))
        run.rewrite([*(figures(entry, settings.confidence)[0] for entry in made), *others])
    publish(run, made, others, options, said, settings.confidence, settings.seed)
    return run.path


def _notes(experiment: ShadowExperiment) -> Iterator[str]:
    """What has to be said of the training."""
    settings = experiment.settings
    trained = f"was trained for {experiment.rounds} rounds on a random half of {len(experiment.pool)} candidates"
    yield f"Each of {settings.shadows} models {trained}, and was the target once, with the others for its shadows."
    if experiment.repeated:
        yield f"{experiment.repeated} candidates repeat earlier ones and were left out."
    if settings.wire_attacks:
        heard = "members were in a victim's batches of these, non-members nowhere in the training"
        yield f"On the wire, the last {settings.watched} rounds were heard: {heard}."
    for spec, attack in settings.wire_attacks.items():
        sums = [scheme for scheme in settings.schemes if settings.victims(scheme) < attack.clients]
        if sums:
            yield f"{spec} compares clients' messages; under {', '.join(sums)} the server sees their sum alone."
