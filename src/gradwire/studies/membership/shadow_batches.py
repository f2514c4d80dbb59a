"""Shadow batches: models trained together with the target's own scheme, and what is kept of them, a file a batch.

An interrupted run goes on with the files that are there.
"""

import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.progress import Progress
from gradwire.runs import replacing
from gradwire.schemes import Layout, guarantees, parse
from gradwire.studies.membership.canaries import adjacency
from gradwire.studies.membership.queries import query
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.studies.membership.shadow_experiment import ShadowExperiment, ShadowTraining, shadow_experiment
from gradwire.studies.membership.wiretap import Wiretap
from gradwire.studies.workers import run_each
from gradwire.training import train
from gradwire.training.batches import schedule
from gradwire.training.plain import fit, fits, resident
from gradwire.wire import InProcess, Transcript

FOLDER, POPULATION = "shadows", "population/"
ShadowRecord = dict[str, Tensor]
"""What is kept of one model: its signals on candidates and, under "population/", on examples that no model was
trained on; "seconds" of training; bytes that a client sent and got in a round, and dense bytes ÷ bytes up; with
canaries, the "epsilon" and "delta" that its scheme guarantees for their adjacency; and, under "naive/" and "adaptive/",
its wire statistics."""


def train_shadows(settings: MembershipSettings, out: Path, scheme: int, jobs: int, progress: Progress) -> None:
    """Train the models of one of the schemes whose batches have no file yet in the run's folder `out`.

    Args:
        jobs: batches at a time (see `run_each`).
    """
    waiting = [batch for batch in _batches(settings, scheme) if not _path(out, scheme, batch).exists()]
    done, total = settings.shadows * (scheme + 1) - sum(map(len, waiting)), settings.shadows * len(settings.schemes)
    (out / FOLDER).mkdir(exist_ok=True)
    progress("shadows", done, total)
    try:
        for batch in run_each(_train, [(settings, out, scheme, batch) for batch in waiting], jobs):
            done += len(batch)
            progress("shadows", done, total)
    except BrokenProcessPool:
        raise GradwireError(f"a worker was killed (by want of memory?); go on with --resume {out}") from None


def load_shadows(settings: MembershipSettings, out: Path, scheme: int) -> list[ShadowRecord]:
    """The records of one scheme's models, in order.

    Raises:
        GradwireError: a file that cannot be read.
    """
    found: list[ShadowRecord] = []
    for batch in _batches(settings, scheme):
        found += _records(_path(out, scheme, batch), batch)
    return found


def _records(path: Path, batch: Sequence[int]) -> list[ShadowRecord]:
    """The records of a batch's file."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise GradwireError(f"{path} cannot be read: {error}; without it, its models are trained again") from None
    starts = [f"{model}/" for model in batch]
    return [{n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)} for start in starts]


def _batches(settings: MembershipSettings, scheme: int) -> list[range]:
    size = shadow_experiment(settings).together(settings.schemes[scheme])
    return [range(start, min(start + size, settings.shadows)) for start in range(0, settings.shadows, size)]


def _path(out: Path, scheme: int, batch: range) -> Path:
    return out / FOLDER / f"{scheme:02d}-{batch[0]:04d}.safetensors"


def _train(settings: MembershipSettings, out: Path, scheme: int, batch: range) -> range:
    """Train a batch and write its file."""
    _write(_path(out, scheme, batch), batch, train_batch(shadow_experiment(settings), settings.schemes[scheme], batch))
    return batch


def one_file_each(experiment: ShadowExperiment, scheme: str, out: Path, progress: Progress) -> list[ShadowRecord]:
    """The records of an experiment that no settings tell whole; each model has its file as soon as it is trained."""
    (out / FOLDER).mkdir(exist_ok=True)
    found = []
    for model in range(len(experiment.members)):
        batch = range(model, model + 1)
        if not (path := _path(out, 0, batch)).exists():
            _write(path, batch, train_batch(experiment, scheme, batch))
        found += _records(path, batch)
        progress("shadows", model + 1, len(experiment.members))
    return found


def _write(path: Path, batch: Sequence[int], records: Sequence[ShadowRecord]) -> None:
    """Write a batch's file, which gets its name when it is complete."""
    tensors = {f"{m}/{name}": t.contiguous() for m, r in zip(batch, records, strict=True) for name, t in r.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def train_batch(experiment: ShadowExperiment, scheme: str, numbers: Sequence[int]) -> list[ShadowRecord]:
    """Train these models, together where that is possible, and return their records.

    Where plain steps compute the same as rounds, they replace all but the last rounds: those that a wiretap hears, and
    at least one, in which bytes are counted.
    """
    settings, task = experiment.settings, experiment.pool.task
    batch = [experiment.begin(scheme, number) for number in numbers]
    taps = [Wiretap.on(experiment, training) for training in batch]
    started = time.perf_counter()
    if all(fits(each.run, each.state.model, each.shards, task) for each in batch):
        until = experiment.rounds - max(1, settings.watched if settings.wire_attacks else 0)
        chosen = [each.own[schedule(each.shards, until, each.run.batch_size, each.run.seed)] for each in batch]
        stored = resident(experiment.stored, settings.device)
        fit([each.state for each in batch], batch[0].run, task, stored, chosen, settings.speed)
    records = [_run(training, tap, bool(settings.canaries)) for training, tap in zip(batch, taps, strict=True)]
    seconds = (time.perf_counter() - started) / len(batch)
    for record, each in zip(records, batch, strict=True):
        record["seconds"] = torch.tensor(seconds, dtype=torch.float64)
        for prefix, asked in (("", experiment.pool), (POPULATION, experiment.population)):
            answers = query(each.state.model, asked, settings.augment, settings.device)
            record |= {f"{prefix}{name}": tensor for name, tensor in answers.known.items()}
    return records


def _run(training: ShadowTraining, tap: Wiretap, audited: bool) -> ShadowRecord:
    """Run the rest of a training over the wire, and keep what it cost, what was heard and what was guaranteed."""
    state, run = training.state, training.run
    sent = run.clients * (run.rounds - state.round)
    tap.hear(state)
    train(state, run, training.part, InProcess(Transcript(keep=0)), tap.hear, shards=training.shards)
    promised = guarantees(parse(run.scheme), state.private) if audited else ()
    figures = {"bytes_up": state.bytes_up / sent, "bytes_down": state.bytes_down / sent}
    figures["ratio"] = 4 * Layout.of_model(state.model).size * sent / state.bytes_up
    for each in promised:
        if (each.unit, each.adjacency) == ("example", adjacency(run.sampling)):
            figures |= {"epsilon": each.epsilon, "delta": each.delta}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()} | tap.record()
