"""The attack on a recorded step of somebody's real training: answers and objectives, and no truth to score them by."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from gradwire import data
from gradwire.attacks.inversion import ATTACKING, certificates, label_notes, part_of, pose
from gradwire.errors import GradwireError
from gradwire.progress import Progress, part, silent
from gradwire.report.audit.pictures import contact_sheet
from gradwire.rounds.recording import load
from gradwire.runs import RunFolder
from gradwire.schemes import Layout
from gradwire.studies.audit import described, facts, keep
from gradwire.studies.audit_cells import load_public_examples, network
from gradwire.studies.audit_settings import AuditSettings
from gradwire.tasks import Domain

COLUMNS = (
    *("data", "model", "scheme", "seed", "device", "bytes_up", "bytes_down", "ratio"),
    *("mode", "attack", "knowledge", "adversary", "victim", "batch", "iterations", "objective", "labels"),
)


def audit_recording(
    path: str | Path,
    settings: AuditSettings,
    labels: Sequence[int] = (),
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Attack the worker that recorded a step and return the folder that holds what came of it.

    Args:
        path: of the transcript, which names the scheme; the settings' own schemes are left aside.
        settings: data (for what an input is, and how it is scaled), model, batch, attacks, knowledge, options.
        labels: of the batch, where targets are classes and known. None: they are inferred, which one example's can be.

    Raises:
        GradwireError: a transcript of another model, labels that are not one an example, settings that cannot be met.
    """
    rounds = load(path)
    recording = rounds[max(rounds)]
    dataset = data.load(settings.data, settings.split).under(settings.loss)
    settings, task = settings.of(dataset.task), dataset.task
    if labels and not task.loss.classes:
        raise GradwireError(f"--label is of classes; the targets of {settings.data} are those of {task.loss.name}")
    if labels and len(labels) != settings.batch:
        raise GradwireError(f"{len(labels)} labels for a batch of {settings.batch}; give --label once an example")
    known = torch.tensor(labels) if labels else None
    shape = (settings.batch, *dataset.shape)
    view = recording.view(network(settings, dataset), shape, known, mode=settings.mode, task=task)
    own = load_public_examples(settings, dataset, len(view.clients))
    problems = {each: replace(pose(view, each), public_examples=own) for each in settings.knows}
    run = RunFolder.create(out, "audit", COLUMNS)
    note = f"Attacked: {recording.victim} in round {recording.round}, recorded in {path}."
    options = asdict(settings) | {"schemes": [recording.scheme], "transcript": str(path)}
    options |= {"domain": described(task)}
    notes = [
        note,
        *recording.notes,
        *certificates(list(problems.values()), {}),
        *label_notes(list(problems.values()), {}),
    ]
    run.configure("audit", options, notes)
    answers = {}
    steps = {spec: len(problems) * getattr(attack, "iterations", 1) for spec, attack in settings.inversions.items()}
    done = 0
    for name, attack in settings.inversions.items():
        watch = part(progress, ATTACKING, done, sum(steps.values()))
        guess = attack.run(list(problems.values()), settings.seed, settings.device, watch)
        done += steps[name]
        for i, knowledge in enumerate(problems):
            for each, found in {name: guess, **{part_of(name, own): its for own, its in guess.parts.items()}}.items():
                answers[f"{recording.scheme}|{each}|{knowledge}"] = found.inputs[i : i + 1]
                row = facts(settings, each, problems[knowledge], found, i, 4 * Layout.of_model(view.model).size)
                told = found.targets[i].tolist() if task.loss.classes else []
                row |= {"victim": recording.victim, "labels": " ".join(map(str, told))}
                run.append([row])
            _show(run.path / f"{file_name(name)}-{knowledge}", task.domain, guess.inputs[i])
    keep(run, task.domain, answers)
    return run.path


def file_name(text: str) -> str:
    """A text as the name of a file or folder, safe in any file system."""
    return re.sub(r"[^\w=.+-]+", "_", text)


def _show(place: Path, domain: Domain, inputs: Tensor) -> None:
    """Write a batch for people: a sheet of pictures, or a line of text an example."""
    cells = domain.cells(inputs)
    if cells is None:
        place.with_name(f"{place.name}.png").write_bytes(contact_sheet(inputs))
        return
    lines = ["".join(f"{c.name}: {c.text}; " if c.name else c.text for c in example).strip() for example in cells]
    place.with_name(f"{place.name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
