"""A run of the train command: rounds of training, with a row and a checkpoint every so many rounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from torch import Tensor

from gradwire import data
from gradwire.data import Dataset, partition
from gradwire.data.splits import SPLITS
from gradwire.errors import GradwireError, at_least
from gradwire.metrics.energy import Meter
from gradwire.progress import Progress, silent
from gradwire.registry import MODELS
from gradwire.report import TRAIN_COLUMNS
from gradwire.rounds.recording import Recorder, save
from gradwire.runs import CHECKPOINT, CLIENTS, Row, RunFolder, check_place, read_table, write_table
from gradwire.schemes import Layout, State, parse
from gradwire.secure.identity_files import Identities
from gradwire.training import TrainingState, TrainSettings, begin, evaluate, train
from gradwire.training.malice import Malice
from gradwire.wire import Collective, InProcess, ParameterServer, Transcript, Transport, client
from gradwire.wire.rendezvous import agree


def run_training(
    data_name: str,
    model_name: str,
    settings: TrainSettings,
    *,
    eval_every: int = 20,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    transport: Transport | None = None,
    record: str | Path | None = None,
    by_client: bool = False,
    identities: Identities | None = None,
    progress: Progress = silent,
) -> Path | None:
    """Train, and return the folder of results.csv, config.json and the checkpoint.

    Of several processes that train together, only the one that leads writes; the others return None. A row holds the
    mean training loss since the last row, and bytes and seconds from the start.

    Args:
        data_name: name or folder of the data set.
        model_name: name of the network or `package.module:factory`.
        eval_every: rounds between two rows.
        out: the folder to write; `resume`: the folder of an earlier run to go on with instead.
        transport: between the clients; by default they are all in this process.
        record: the file to write the last round to, as the server saw it.
        by_client: at each row, judge the model on every client's own training examples too, in clients.csv.
        identities: as for `training.begin`.

    Raises:
        GradwireError: settings that cannot be met, a folder that cannot be written or does not hold this run.
    """
    at_least(1, eval_every=eval_every)
    check_place(out, resume)
    data_name, model_name = data.spec_of(data_name), model_name and MODELS.spec(model_name)
    scheme = parse(settings.scheme)
    if scheme.least_rounds >= settings.rounds > 0:
        short = f"{scheme.spec} warms up for {scheme.least_rounds} rounds and the run has {settings.rounds}"
        raise GradwireError(f"{short}: nothing would be compressed; it must have more")
    dataset, held_out = (data.load(data_name, split).under(settings.loss) for split in SPLITS)
    model_name = model_name or dataset.task.network
    # Before there is a folder.
    shards = partition.split(settings.partition, dataset.targets, settings.clients, settings.seed)
    model = dataset.network(model_name, settings.seed)
    options = {"data": data_name, "model": model_name, "eval_every": eval_every, **asdict(settings)}
    wanted = Malice.parse(settings.malice).judged(held_out) if settings.malicious else None
    transport = transport or InProcess(Transcript(keep=1))
    if isinstance(transport, Collective):
        _check_processes(settings, transport, bool(resume))
        agree(transport, options | {"examples": len(dataset), "resume": bool(resume)})
    state = begin(settings, model, transport, identities)
    if resume:
        state.restore(Path(resume) / CHECKPOINT, settings)
    run = None
    if transport.leads:
        *known, _ = TRAIN_COLUMNS
        measures = (*(f"test_{name}" for name in dataset.task.loss.measured), *(["attack_success"] if wanted else ()))
        columns = (*known, *measures, "residual", "energy_kwh")
        old = RunFolder.reopen(resume, columns, keep=state.round) if resume else None
        run = old or RunFolder.create(out, "train", columns, resumes=True)
        run.configure("train", options, _notes(settings, state))
    meter, before = Meter(settings.device), state.energy_kwh
    dense = 4 * Layout.of_model(model).size * settings.cohort
    losses: list[float] = []
    # The secrets of a secure sum stay with the clients' processes, so that there is no checkpoint.
    secret = isinstance(transport, ParameterServer)

    def after_round(state: TrainingState, loss: float) -> None:
        if isfinite(loss):
            losses.append(loss)
        progress("training", state.round, settings.rounds)
        if state.round % eval_every and state.round != settings.rounds:
            return
        private = state.private if secret else transport.share(state.private)
        if run is None:
            return
        used = meter.kwh()
        state.energy_kwh = None if used is None or before is None else before + used
        tested = evaluate(state.model, held_out, settings.device)
        row = {
            **dict.fromkeys(run.columns, ""),
            **{name: options[name] for name in ("data", "model", "scheme", "seed", "device")},
            **{name: getattr(state, name) for name in ("bytes_up", "bytes_down", "round")},
            "seconds": round(state.seconds, 3),
            "ratio": dense * state.taken / state.bytes_up if state.bytes_up else float("nan"),
            "epoch": float(settings.passes(state.round, len(dataset))),
            "train_loss": sum(losses) / len(losses) if losses else float("nan"),
            **{f"test_{name}": value for name, value in tested.items()},
            "residual": "" if secret else _residual(settings, state, private),
            "energy_kwh": "" if state.energy_kwh is None else state.energy_kwh,
        }
        if wanted is not None:
            row["attack_success"] = evaluate(state.model, wanted, settings.device).get("accuracy", "")
        losses.clear()
        # The checkpoint last: rows that go beyond it are cut when the run is resumed, and none is missing.
        run.append([row])
        if by_client:
            judged.extend(_by_client(state, settings, dataset, shards))
            write_table(run.path / CLIENTS, tuple(judged[0]), judged)
        if not secret:
            state.save(run.path / CHECKPOINT, settings, private)

    judged: list[Row] = []
    if resume and (Path(resume) / CLIENTS).exists():
        judged.extend(row for row in read_table(Path(resume) / CLIENTS) if int(row["round"]) <= state.round)
    recorder = None if record is None else Recorder()
    train(state, settings, dataset, transport, after_round, recorder)
    if run is None:
        return None
    if recorder is not None and record is not None:
        save(recorder.rounds, record)
    run.configure("train", options, _notes(settings, state))
    return run.path


def _residual(settings: TrainSettings, state: TrainingState, private: Mapping[str, State]) -> float | str:
    """The standard deviation of what clients hold back of their updates, over all of them; "" where nothing is."""
    scheme, layout = parse(settings.scheme), Layout.of_model(state.model)
    kept = (tensor.double() for own in private.values() for tensor in scheme.kept_back(own, layout).values())
    moments = [(t.numel(), float(t.sum()), float(t.square().sum())) for t in kept]
    if not moments:
        return ""
    count, total, squares = map(sum, zip(*moments, strict=True))
    return max(0.0, squares / count - (total / count) ** 2) ** 0.5


def _by_client(
    state: TrainingState, settings: TrainSettings, dataset: Dataset, shards: Sequence[Tensor]
) -> Iterator[Row]:
    """The loss and the task's measures on each client's own training examples, a row a client."""
    for number, shard in enumerate(shards):
        told = {"round": state.round, "client": client(number), "examples": len(shard)}
        yield told | dict(evaluate(state.model, dataset.part(shard), settings.device))


def _check_processes(settings: TrainSettings, transport: Collective, resumed: bool) -> None:
    """Refuse what clients in processes of their own cannot do."""
    if settings.cohort < settings.clients:
        raise GradwireError(f"sample is {settings.sample}; processes that train together all take part in each round")
    if settings.drop_clients:
        raise GradwireError(f"drop_clients is {settings.drop_clients}; clients vanish only where one process runs all")
    if isinstance(transport, ParameterServer) and resumed:
        raise GradwireError(f"--resume: keys of {settings.scheme} stay with their processes, so there is no checkpoint")


def _notes(settings: TrainSettings, state: TrainingState) -> list[str]:
    """What has to be said beside the table."""
    notes, scheme = list(state.notes), parse(settings.scheme)
    if (local := scheme.local_momentum) and settings.optimizer == "sgd":
        notes.append(f"{settings.scheme}: clients keep a momentum of {local:g} themselves; the optimiser adds none.")
    if settings.malicious:
        notes.append(f"{settings.malicious} of {settings.clients} clients are malicious: {settings.malice}.")
    if settings.rule != "mean":
        notes.append(f"The server follows {settings.rule}; bytes down are counted as those of a plain mean.")
    if state.dropped or state.short:
        notes.append(f"{state.dropped} times a client vanished from a round that the others finished.")
    if state.short:
        notes.append(f"{state.short} rounds were skipped, for too few clients were left.")
    if state.skipped:
        notes.append(f"{state.skipped} rounds were skipped, for a gradient was not finite.")
    return notes + list(scheme.accounting.notes(state.private) if scheme.accounting else ())
