"""The audit: victims × schemes × knowledge × attacks: captured as training sends them, attacked, only then scored."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from gradwire import data, metrics
from gradwire.attacks.inversion import ATTACKING, Guess, Problem
from gradwire.errors import GradwireError
from gradwire.progress import Progress, part, silent
from gradwire.report import AUDIT_COLUMNS
from gradwire.runs import RunFolder, begun, check_place
from gradwire.schemes import Layout, observation
from gradwire.studies.audit_cells import AuditCell, Truth, chunk_size, chunks, held, load_public_examples, network
from gradwire.studies.audit_settings import AuditSettings

COLUMNS = (*AUDIT_COLUMNS, "label_accuracy")


def audit(
    settings: AuditSettings,
    out: str | Path | None = None,
    progress: Progress = silent,
    resume: str | Path | None = None,
) -> Path:
    """Run a whole audit and return the folder that it wrote: results.csv, config.json, reconstructions.

    Rows are written as chunks of victims are finished, and attacks write their state beside them. A resumed audit goes
    on from there to the table that it would have had, but for the seconds; training before the attack is run again.

    Args:
        out: the folder to write; `resume`: the folder of an audit that was cut, with the same settings.

    Raises:
        GradwireError: settings that cannot be met, or a folder that cannot be written or resumed.
    """
    check_place(out, resume)
    victims = data.load(settings.data, settings.split)
    needed = settings.samples * settings.batch * settings.parties
    if len(victims) < needed:
        has = f"{settings.data} has {len(victims)} {settings.split} images"
        raise GradwireError(f"{has}; this audit needs {needed}: a batch for every party of every victim's round")
    model, public_examples = network(settings, victims), load_public_examples(settings)
    dense = 4 * Layout.of_model(model).size
    before = begun(resume) if resume else {}
    if not settings.chunk:
        # Other chunks would round the table differently, so that a resumed audit goes on with its own.
        size = int(str(before["chunk"])) if resume else chunk_size(settings, model, victims.task)
        settings = replace(settings, chunk=size)
    run = RunFolder.begin(out, resume, "audit", COLUMNS, asdict(settings))
    run.rewrite([])
    run.checkpoints.mkdir(exist_ok=True)
    run.configure("audit", asdict(settings))
    images, _ = victims.batch(range(settings.samples * settings.batch))
    originals = images.view(settings.samples, settings.batch, *victims.shape)
    pictures = {"originals": originals}
    notes: dict[str, None] = {}
    lost, finished, attacks = 0, 0, settings.inversions
    steps = [getattr(attack, "iterations", 1) for attack in attacks.values()]
    total = settings.samples * len(settings.schemes) * len(settings.knows) * sum(steps)

    for number, chunk in enumerate(chunks(settings, victims, model, public_examples, progress)):
        notes |= dict.fromkeys(note for cell in chunk for note in (*cell.notes, *_of_sums(cell.problem)))
        for position, (name, attack) in enumerate(attacks.items()):
            started = time.perf_counter()
            problems = [cell.problem for cell in chunk]
            watch = part(progress, ATTACKING, finished, total)
            kept = run.checkpoints / f"{number:05}-{position}.safetensors"
            guess = attack.run(problems, settings.seed, settings.device, watch, kept)
            each = (time.perf_counter() - started) / len(chunk)
            finished += steps[position] * len(chunk)
            progress(ATTACKING, finished, total)
            lost += guess.lost
            notes |= dict.fromkeys(guess.notes)
            # Only here, when the attack has chosen, does the truth come in.
            truth = held(settings, victims, chunk)
            found = metrics.match(guess.inputs, truth[0])
            run.append(_rows(settings, name, chunk, guess, found, truth, each, dense))
            for cell, picture in zip(chunk, found, strict=True):
                key = f"{cell.scheme}|{name}|{cell.knowledge}"
                pictures.setdefault(key, torch.zeros_like(originals))[cell.victim] = picture[: settings.batch]
    run.save(pictures)
    if lost:
        notes[f"{lost} restarts ended in a value that was not finite and were given up"] = None
    run.configure("audit", asdict(settings), notes)
    shutil.rmtree(run.checkpoints)
    return run.path


def _of_sums(problem: Problem) -> Iterator[str]:
    """Notes on a mean over clients, and on the running statistics that a secure sum does not hide."""
    view, several = problem.view, len(problem.clients)
    scheme, _ = observation(view)
    if several > 1:
        whose = f"the images of all {several} clients are sought and scored, for a mean does not tell whose is whose"
        yield f"{view.scheme}, adaptive: {whose}"
    if scheme.sums_only and view.buffers is not None:
        yield f"{view.scheme} hides single updates; batch norm's running statistics are sent beside it in the clear"


def facts(
    settings: AuditSettings, attack: str, problem: Problem, guess: Guess, number: int, dense: int
) -> dict[str, object]:
    """The columns of a row that need no truth; `number` is the problem's in the batch, `dense` the model's bytes."""
    view = problem.view
    return {
        **{name: getattr(settings, name) for name in ("data", "model", "seed", "device", "mode", "batch")},
        **{name: getattr(view, name) for name in ("scheme", "bytes_up", "bytes_down", "adversary")},
        "ratio": dense / view.bytes_up,
        "attack": attack,
        "knowledge": problem.knowledge,
        "iterations": guess.iterations,
        "objective": float(guess.objective[number]),
    }


def _rows(
    settings: AuditSettings,
    attack: str,
    chunk: list[AuditCell],
    guess: Guess,
    found: Tensor,
    truth: Truth,
    seconds: float,
    dense: int,
) -> Iterator[dict[str, object]]:
    """One row a cell; `found` are the guess's images in the order of the true ones."""
    true, labels = truth
    scores = {"mse": metrics.mse(found, true), "psnr": metrics.psnr(found, true), "ssim": metrics.ssim(found, true)}
    success = metrics.success(scores["ssim"])
    accuracy = metrics.label_accuracy(guess.targets, labels)
    for i, cell in enumerate(chunk):
        yield facts(settings, attack, cell.problem, guess, i, dense) | {
            "scheme": cell.scheme,
            "seconds": round(seconds, 4),
            "adversary": settings.adversary,
            "victim": cell.victim,
            **{name: float(score[i]) for name, score in scores.items()},
            "success": int(success[i]),
            # The adversary may have been told them.
            "label_accuracy": "" if settings.labels == "known" else float(accuracy[i]),
        }
