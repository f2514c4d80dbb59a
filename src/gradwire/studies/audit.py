"""The audit: victims × schemes × knowledge × attacks: captured as training sends them, attacked, only then scored."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from gradwire import data, metrics, models
from gradwire.attacks.inversion import Guess, Knowledge, Problem, pose
from gradwire.attacks.inversion.memory import rows_that_fit
from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.report import AUDIT_COLUMNS
from gradwire.schemes import Layout, State
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.run import Progress, RunFolder, silent
from gradwire.training import TrainingState, TrainSettings, begin, capture, train
from gradwire.wire import View


@dataclass(frozen=True)
class Situation:
    """One scheme at the moment of the attacked round: the model and the scheme's state as they then are."""

    scheme: str
    model: nn.Module
    public: State | None = None
    private: Mapping[str, State] | None = None


@dataclass(frozen=True)
class Cell:
    """One victim's problem, and what its row is filed under."""

    scheme: str
    knowledge: Knowledge
    victim: int
    problem: Problem


def audit(settings: AuditSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Run a whole audit and return the folder that it wrote: results.csv, config.json, reconstructions.

    Rows are written as chunks of victims are finished, so that an interrupted audit leaves them readable.

    Raises:
        GradwireError: settings that cannot be met, or a folder that cannot be written.
    """
    victims = data.load(settings.data, settings.split)
    needed = settings.samples * settings.batch * settings.parties
    if len(victims) < needed:
        raise GradwireError(f"{settings.data} has {len(victims)} {settings.split} images; this audit needs {needed}")
    model = _model(settings, victims)
    run = RunFolder.create(out, "audit", (*AUDIT_COLUMNS, "label_accuracy"))
    run.configure("audit", asdict(settings))
    images, labels = victims.batch(range(settings.samples * settings.batch))
    labels = labels.view(settings.samples, settings.batch)
    truth = images.view(settings.samples, settings.batch, *victims.shape)
    pictures = {"originals": truth}
    notes: dict[str, None] = {}
    lost, done = 0, 0
    steps = sum(getattr(settings.attack(name), "iterations", 1) for name in settings.attacks)
    total = settings.cells * steps

    def tick(victims: int) -> None:
        nonlocal done
        done += victims
        progress("attacking", done, total)

    for chunk in _chunks(settings, victims, model, progress):
        for name in settings.attacks:
            started = time.perf_counter()
            problems = [cell.problem for cell in chunk]
            guess = settings.attack(name).run(problems, settings.seed, settings.device, tick)
            each = (time.perf_counter() - started) / len(chunk)
            lost += guess.lost
            notes |= dict.fromkeys(guess.notes)
            # Only here, when the attack has chosen, does the truth come in.
            true = truth[[cell.victim for cell in chunk]]
            found = metrics.match(guess.images, true)
            rows = _rows(settings, name, chunk, guess, found, true, each)
            run.append(_labelled(settings, rows, chunk, guess, labels))
            for cell, picture in zip(chunk, found, strict=True):
                key = f"{cell.scheme}|{name}|{cell.knowledge}"
                pictures.setdefault(key, torch.zeros_like(truth))[cell.victim] = picture
    run.save(pictures)
    if lost:
        notes[f"{lost} restarts ended in a value that was not finite and were given up"] = None
    run.configure("audit", asdict(settings), notes)
    return run.path


def _model(settings: AuditSettings, dataset: Dataset) -> nn.Module:
    shape, classes = dataset.shape, dataset.num_classes
    model = models.build(settings.model, shape, classes, dataset.mean, dataset.std, settings.seed)
    return model.to(settings.device)


def _situations(settings: AuditSettings, model: nn.Module, progress: Progress) -> Iterator[list[Situation]]:
    """Schemes that share a model, lot by lot: untrained, all of them do; trained, each has come its own way."""
    if not settings.trained_rounds:
        yield [Situation(spec, model) for spec in settings.schemes]
        return
    dataset = data.load(settings.data, "train")
    for number, spec in enumerate(settings.schemes):
        how = TrainSettings(
            scheme=spec,
            clients=settings.parties,
            rounds=settings.trained_rounds,
            seed=settings.seed,
            device=settings.device,
        )
        state = begin(how, _model(settings, dataset))

        def tick(state: TrainingState, _: float, number: int = number) -> None:
            rounds = settings.trained_rounds
            progress("training", number * rounds + state.round, len(settings.schemes) * rounds)

        train(state, how, dataset, after_round=tick)
        yield [Situation(spec, state.model, state.public, state.private)]


def _chunks(settings: AuditSettings, victims: Dataset, model: nn.Module, progress: Progress) -> Iterator[list[Cell]]:
    """The cells of the audit in chunks that are attacked as one batch each: cells that share a model."""
    size = settings.chunk
    for lot in _situations(settings, model, progress):
        if not size:
            shape = (settings.batch, *victims.shape)
            size = max(1, rows_that_fit(lot[0].model, shape, settings.device) // settings.restarts)
        cells = (cell for situation in lot for cell in _cells(settings, situation, victims))
        yield from iter(lambda cells=cells, size=size: list(islice(cells, size)), [])  # type: ignore[misc]


def _cells(settings: AuditSettings, situation: Situation, victims: Dataset) -> Iterator[Cell]:
    """Capture each victim's round under one scheme, and pose the problem for each kind of knowledge."""
    views = [_view(settings, situation, victims, victim) for victim in range(settings.samples)]
    for knowledge in settings.knows:
        for victim, view in enumerate(views):
            yield Cell(situation.scheme, knowledge, victim, pose(view, knowledge, salt=victim))


def _view(settings: AuditSettings, situation: Situation, victims: Dataset, victim: int) -> View:
    """What the adversary sees of one victim's round."""
    batches = [_batch(settings, victims, victim, party) for party in range(settings.parties)]
    return capture(
        situation.model,
        *batches[0],
        situation.scheme,
        adversary=settings.adversary,
        fellows=batches[1:],
        mode=settings.mode,
        labels_known=settings.labels == "known",
        public=situation.public,
        private=situation.private,
        round=settings.trained_rounds,
        seed=settings.seed,
        freeze=False,
    )


def _batch(settings: AuditSettings, victims: Dataset, victim: int, party: int) -> tuple[Tensor, Tensor]:
    """What a party of a victim's round holds: party 0 is the victim, its fellows' images come after all victims'."""
    start = (party * settings.samples + victim) * settings.batch
    images, labels = victims.batch(range(start, start + settings.batch))
    return images.to(settings.device), labels.to(settings.device)


def _rows(
    settings: AuditSettings, name: str, chunk: list[Cell], guess: Guess, found: Tensor, true: Tensor, seconds: float
) -> Iterator[dict[str, object]]:
    """One row a cell; `found` are the guess's images in the order of the true ones."""
    mse, psnr, ssim = metrics.mse(found, true), metrics.psnr(found, true), metrics.ssim(found, true)
    for i, cell in enumerate(chunk):
        view = cell.problem.view
        yield {
            "data": settings.data,
            "model": settings.model,
            "scheme": cell.scheme,
            "seed": settings.seed,
            "device": settings.device,
            "seconds": round(seconds, 4),
            "bytes_up": view.bytes_up,
            "bytes_down": view.bytes_down,
            "ratio": 4 * Layout.of_model(view.model).size / view.bytes_up,
            "mode": settings.mode,
            "attack": name,
            "knowledge": cell.knowledge,
            "adversary": settings.adversary,
            "victim": cell.victim,
            "batch": settings.batch,
            "iterations": guess.iterations,
            "objective": float(guess.objective[i]),
            "mse": float(mse[i]),
            "psnr": float(psnr[i]),
            "ssim": float(ssim[i]),
            "success": int(metrics.success(ssim)[i]),
        }


def _labelled(
    settings: AuditSettings, rows: Iterator[dict[str, object]], chunk: list[Cell], guess: Guess, labels: Tensor
) -> Iterator[dict[str, object]]:
    """Rows with the share of labels that were found; an empty cell where the adversary was told them."""
    accuracy = metrics.label_accuracy(guess.labels, labels[[cell.victim for cell in chunk]])
    for row, found in zip(rows, accuracy, strict=True):
        yield row | {"label_accuracy": "" if settings.labels == "known" else float(found)}
