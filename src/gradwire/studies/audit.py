"""The audit: victims × schemes × knowledge × attacks: captured as training sends them, attacked, only then scored."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from gradwire import metrics
from gradwire.attacks.inversion import ATTACKING, Guess, Problem, certificates, label_notes, part_of
from gradwire.progress import Progress, part, silent
from gradwire.report import AUDIT_COLUMNS
from gradwire.runs import EXAMPLES, RunFolder, begun, check_place
from gradwire.schemes import Layout, observation
from gradwire.studies.audit_cells import (
    AuditCell,
    Truth,
    chunk_size,
    chunks,
    held,
    load_public_examples,
    load_victims,
    network,
)
from gradwire.studies.audit_intent import intent
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.verdicts import verdicts
from gradwire.tasks import Domain, Pixels, Task


def audit(
    settings: AuditSettings,
    out: str | Path | None = None,
    progress: Progress = silent,
    resume: str | Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Run a whole audit and return the folder that it wrote: results.csv, config.json, reconstructions.

    Rows are written as chunks of victims are finished, and attacks write their state beside them. A resumed audit goes
    on from there to the table that it would have had, but for the seconds; training before the attack is run again.

    Args:
        out: the folder to write; `resume`: the folder of an audit that was cut, with the same settings.
        announce: is told in a sentence what will be done, and about how long it will take.

    Raises:
        GradwireError: settings that cannot be met, or a folder that cannot be written or resumed.
    """
    check_place(out, resume)
    settings, victims = load_victims(settings)
    domain = victims.task.domain
    model, public_examples = network(settings, victims), load_public_examples(settings, victims)
    dense = 4 * Layout.of_model(model).size
    before = begun(resume) if resume else {}
    if not settings.chunk:
        # Other chunks would round the table differently, so that a resumed audit goes on with its own.
        size = int(str(before["chunk"])) if resume else chunk_size(settings, model, victims.task)
        settings = replace(settings, chunk=size)
    run = RunFolder.begin(out, resume, "audit", columns(domain), asdict(settings))
    run.rewrite([])
    run.checkpoints.mkdir(exist_ok=True)
    options = asdict(settings) | {"domain": described(victims.task)}
    run.configure("audit", options)
    if announce:
        announce(intent(settings, victims, model))
    originals = victims.batch(range(settings.samples * settings.batch))[0].unflatten(0, (settings.samples, -1))
    answers = {"originals": originals}
    notes: dict[str, None] = {}
    rehearsed: dict[str, str] = {}
    determined: dict[str, str] = {}
    lost, finished, attacks = 0, 0, settings.inversions
    steps = [getattr(attack, "iterations", 1) for attack in attacks.values()]
    total = settings.samples * len(settings.schemes) * len(settings.knows) * sum(steps)

    for number, chunk in enumerate(chunks(settings, victims, model, public_examples, progress)):
        notes |= dict.fromkeys(note for cell in chunk for note in (*cell.notes, *_of_sums(cell.problem)))
        notes |= dict.fromkeys(certificates([cell.problem for cell in chunk], determined))
        notes |= dict.fromkeys(label_notes([cell.problem for cell in chunk], rehearsed))
        for position, (name, attack) in enumerate(attacks.items()):
            started = time.perf_counter()
            problems = [cell.problem for cell in chunk]
            watch = part(progress, ATTACKING, finished, total)
            kept = run.checkpoints / f"{number:05}-{position}.safetensors"
            guess = attack.run(problems, settings.seed, settings.device, watch, kept)
            each = (time.perf_counter() - started) / len(chunk)
            finished += steps[position] * sum(len(cell.knows) for cell in chunk)
            progress(ATTACKING, finished, total)
            lost += guess.lost
            notes |= dict.fromkeys(guess.notes)
            # Only here, when the attack has chosen, does the truth come in.
            truth = held(settings, victims, chunk)
            found = domain.matched(guess.inputs, truth[0])
            run.append(_rows(settings, domain, name, chunk, guess, found, truth, each, dense))
            for part_name, own in guess.parts.items():
                answer = domain.matched(own.inputs, truth[0])
                run.append(_rows(settings, domain, part_of(name, part_name), chunk, own, answer, truth, each, dense))
            for cell, answer in zip(chunk, found, strict=True):
                for knowledge in cell.knows:
                    key = f"{cell.scheme}|{name}|{knowledge}"
                    answers.setdefault(key, torch.zeros_like(originals))[cell.victim] = answer[: settings.batch]
    keep(run, domain, answers)
    if lost:
        notes[f"{lost} restarts ended in a value that was not finite and were given up"] = None
    run.configure("audit", options, notes)
    shutil.rmtree(run.checkpoints)
    return run.path


def _of_sums(problem: Problem) -> Iterator[str]:
    """Notes on a mean over clients, and on the running statistics that a secure sum does not hide."""
    view, several = problem.view, len(problem.clients)
    scheme, _ = observation(view)
    if several > 1:
        what = f"the {view.task.domain.what} of all {several} clients are sought and scored"
        whose = f"{what}, for a mean does not tell whose is whose"
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


def columns(domain: Domain) -> tuple[str, ...]:
    """The columns of an audit of inputs of this domain."""
    added = ("label_accuracy", "expected", "verdict")
    if isinstance(domain, Pixels):
        return (*AUDIT_COLUMNS, *added)
    known = AUDIT_COLUMNS[: AUDIT_COLUMNS.index("objective") + 1]
    return (*known, *domain.scores, "uninformed", "success", *added)


def described(task: Task) -> dict[str, object]:
    """What a report has to know of a domain, and of targets that are made of the inputs."""
    domain, same = task.domain, f"Its targets are the {task.domain.what} themselves, which it does not know."
    told = {name: getattr(domain, name) for name in ("name", "what", "higher", "assumed")}
    told |= {"scores": list(domain.scores), "success": domain.enough}
    return told | {"targets": same if task.loss.from_inputs else ""}


def keep(run: RunFolder, domain: Domain, answers: Mapping[str, Tensor]) -> None:
    """Write originals and answers, key → (V, B, *shape): pictures as tensors, and others as people read them."""
    if domain.cells(next(iter(answers.values()))[0]) is None:
        run.save(answers)
        return
    truth = answers.get("originals")
    shown: dict[str, list[list[list[list[object]]]]] = {}
    for key, several in answers.items():
        read = [domain.cells(each) or () for each in several]
        if key == "originals" or truth is None:
            shown[key] = [[[list(cell) for cell in example] for example in victim] for victim in read]
            continue
        right = [domain.right(ours, true) for ours, true in zip(several, truth, strict=True)]
        pairs = [list(zip(*each, strict=True)) for each in zip(read, right, strict=True)]
        shown[key] = [
            [[[*cell, bool(good)] for cell, good in zip(example, goods, strict=False)] for example, goods in victim]
            for victim in pairs
        ]
    run.write_json(EXAMPLES, shown)


def _rows(
    settings: AuditSettings,
    domain: Domain,
    attack: str,
    chunk: list[AuditCell],
    guess: Guess,
    found: Tensor,
    truth: Truth,
    seconds: float,
    dense: int,
) -> Iterator[dict[str, object]]:
    """One row a cell and kind of knowledge; `found` are the guess's inputs in the order of the true ones."""
    true, targets = truth
    scores = domain.score(found, true)
    success, usual = domain.success(scores), domain.uninformed()
    nothing = None if usual is None else domain.score(usual.expand_as(true).to(true.dtype), true)[domain.scores[0]]
    classes = bool(chunk[0].problem.view.task.loss.classes)
    inferred = settings.labels == "inferred" and classes and bool(guess.targets.numel())
    accuracy = metrics.label_accuracy(guess.targets, targets) if inferred else None
    said = verdicts(guess, true, targets, success.tolist())
    for i, cell in enumerate(chunk):
        row = facts(settings, attack, cell.problem, guess, i, dense) | {
            "scheme": cell.scheme,
            "seconds": round(seconds, 4),
            "adversary": settings.adversary,
            "victim": cell.victim,
            **{name: float(score[i]) for name, score in scores.items()},
            "uninformed": "" if nothing is None else float(nothing[i]),
            "expected": expected if (expected := guess.expected[i] if guess.expected else None) is not None else "",
            "success": int(success[i]),
            "verdict": said[i],
            "label_accuracy": "" if accuracy is None else float(accuracy[i]),
        }
        yield from (row | {"knowledge": knowledge} for knowledge in cell.knows)
