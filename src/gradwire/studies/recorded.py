"""The attack on a recorded step of somebody's real training, and its score for those who hold the step's batch."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from gradwire import data
from gradwire.attacks.inversion import ATTACKING, Guess, Problem, certificates, joint, label_notes, part_of
from gradwire.attacks.inversion.listener import Heard, listen
from gradwire.attacks.inversion.match import Match
from gradwire.errors import GradwireError, at_least
from gradwire.progress import Progress, part, silent
from gradwire.registry import ATTACKS
from gradwire.report.audit.pictures import contact_sheet
from gradwire.report.rows import RECORDED_COLUMNS
from gradwire.rounds.recording import RecordedRound, load
from gradwire.runs import RunFolder
from gradwire.schemes import Layout, observation
from gradwire.studies.audit import columns, described, facts, keep
from gradwire.studies.audit_cells import load_public_examples, network
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.verdicts import verdicts
from gradwire.tasks import Domain, Task
from gradwire.wire import View
from gradwire.wire.view import LocalWork

LISTENER = "iga:iterations=200,optimizer=lbfgs,tv="
"""How somebody who heard earlier rounds finds their batches. The weight of the prior follows."""
HEARD, ALONE = "listener", "alone"
"""Who heard the rounds before; and how the attack on one message alone is called, as a part of that one's."""
ANOTHER = 0.05
"""The share of what was sent, ‖A(G) − y‖² / ‖y‖², from which on a batch that leaves it unexplained is another one."""
Truth = tuple[Tensor, Tensor]
"""Inputs (B, *shape) and targets."""


def told_work(options: dict[str, Any]) -> LocalWork | None:
    """Take the local steps of recorded clients out of an audit's options; None where there are none.

    Raises:
        GradwireError: a number out of range, or of local steps without any.
    """
    steps, batch, decay = (options.pop(name, 0) for name in ("local_steps", "local_batch", "weight_decay"))
    at_least(0, local_steps=steps, local_batch=batch, weight_decay=decay)
    for name, value in {"local_batch": batch, "weight_decay": decay}.items():
        if value and not steps:
            raise GradwireError(f"{name} is {value}; it is of --local-steps, of which there are none")
    return LocalWork(steps, batch or options["batch"], options["lr"], decay) if steps else None


def audit_recording(
    path: str | Path,
    settings: AuditSettings,
    labels: Sequence[int] = (),
    out: str | Path | None = None,
    progress: Progress = silent,
    *,
    client: str = "",
    number: int | None = None,
    work: LocalWork | None = None,
    truth: str | Path | None = None,
    told: Mapping[str, object] | None = None,
) -> Path:
    """Attack a client of a recorded round and return the folder that holds what came of it.

    Where error feedback mixes a round's gradient with what was kept back of earlier ones, the
    adaptive adversary is somebody who heard all recorded rounds before it (`listener`); "alone" heard this one.

    Args:
        path: of the transcript, which names the scheme; the settings' own schemes are left aside.
        settings: data (for what an input is, and how it is scaled), model, attacks, knowledge, options; the batch,
            where the recorder was not told it. Of several `rounds` the last are attacked together, by attacks that can
            (`rounds`).
        labels: of the batch, where targets are classes and known. None: they are inferred, which one example's can be.
        client: by default the worker that recorded the step, or a federation's first. `number`: of the (last) round,
            by default the last. `work`: the client's local steps, where the recorder did not know them.
        told: "batch" and "mode" as somebody named them, which the recording may not contradict.
        truth: a file of torch.save with the batch, {"inputs": …, "targets": …}; answers are scored by it, once they are
            chosen.

    Raises:
        GradwireError: a transcript of another model, labels that are not one an example, settings that cannot be met.
    """
    heard = [each.of_client(client, work) for each in _until(load(path), number, client)]
    recordings, recording = heard[-settings.rounds :], heard[-1]
    if len(heard) < settings.rounds:
        raise GradwireError(f"rounds is {settings.rounds}; {len(heard)} are recorded up to round {recording.round}")
    settings = _as_recorded(settings, recording, told or {})
    dataset = data.load(settings.data, settings.split).under(settings.loss)
    settings, task = settings.of(dataset.task), dataset.task
    if labels and not task.loss.classes:
        raise GradwireError(f"--label is of classes; the targets of {settings.data} are those of {task.loss.name}")
    if labels and len(labels) != settings.batch:
        raise GradwireError(f"{len(labels)} labels for a batch of {settings.batch}; give --label once an example")
    known = torch.tensor(labels) if labels else None
    shape = (settings.batch, *dataset.shape)
    held = None if truth is None else _truth(truth, shape, task.domain)
    model = network(settings, dataset)
    views = [each.view(model, shape, known, mode=settings.mode, task=task) for each in recordings]
    view = views[-1]
    settings = replace(settings, mode=view.mode)
    own = load_public_examples(settings, dataset, len(view.clients))
    problems = [replace(joint(views, each), public_examples=own) for each in settings.knows]
    run = RunFolder.create(out, "audit", RECORDED_COLUMNS if held is None else columns(task.domain))
    which = " to ".join(dict.fromkeys(str(each.round) for each in (recordings[0], recording)))
    notes = [f"Attacked: {recording.victim} in round {which}, recorded in {path}.", *recording.notes]
    if held is not None and not any((recording.carried, work, view.work, recording.passes > 1)):
        notes += _doubts_of(held, joint([view], "adaptive"), truth, settings.device)
    notes += [*certificates(problems, {}), *label_notes(problems, {})]
    names: list[str] = list(settings.knows)
    if recording.carried and len(recordings) == 1 and "adaptive" in names:
        before = [
            each.view(model, (each.batch or shape[0], *shape[1:]), mode=settings.mode, task=task) for each in heard
        ]
        listened = _listened([*before[:-1], view], heard[0], settings, progress)
        notes.append(listened if isinstance(listened, str) else listened.sentence)
        if not isinstance(listened, str):
            problems.append(replace(listened.problem, public_examples=own))
            names.append(HEARD)
    # What the recording says in place of the settings: how far the model was trained is not known.
    options = asdict(settings) | {"schemes": [recording.scheme], "transcript": str(path), "domain": described(task)}
    options |= {"labels": "known" if labels else "inferred", "samples": 1, "trained_rounds": None}
    options["rounds"] = len(heard)
    run.configure("audit", options, notes)
    dense = 4 * Layout.of_model(view.model).size
    answers: dict[str, Tensor] = {} if held is None else {"originals": held[0][None]}
    steps = {spec: len(problems) * getattr(attack, "iterations", 1) for spec, attack in settings.inversions.items()}
    done = 0
    for name, attack in settings.inversions.items():
        started = time.perf_counter()
        watch = part(progress, ATTACKING, done, sum(steps.values()))
        guess = attack.run(problems, settings.seed, settings.device, watch)
        done += steps[name]
        seconds = round((time.perf_counter() - started) / len(problems), 4)
        guess = _at_least_alone(guess, names)
        for filed, found in {name: guess, **{part_of(name, own): its for own, its in guess.parts.items()}}.items():
            scored = {} if held is None else _scores(found, held, task)
            for i, whose in enumerate(names):
                spec = part_of(filed, ALONE) if whose == "adaptive" and HEARD in names else filed
                row = facts(settings, spec, problems[i], found, i, dense) | {
                    "victim": recording.victim,
                    "seconds": seconds,
                }
                row["labels"] = " ".join(map(str, found.targets[i].tolist())) if task.loss.classes else ""
                run.append(
                    [dict.fromkeys(run.columns, "") | row | {column: each[i] for column, each in scored.items()}]
                )
                answers[f"{recording.scheme}|{spec}|{problems[i].knowledge}"] = found.inputs[i : i + 1]
        file = re.sub(r"[^\w=.+-]+", "_", name)  # safe in any file system
        for i, whose in enumerate(names):
            _show(run.path / f"{file}-{whose}", task.domain, guess.inputs[i])
    keep(run, task.domain, answers)
    return run.path


def _listened(views: list[View], first: RecordedRound, settings: AuditSettings, progress: Progress) -> Heard | str:
    """What somebody knows of the last view who heard them all; where nothing follows, a note that says why."""
    scheme, seen = observation(views[0])
    numbers = sum(int(t.counts().sum()) for terms in scheme.measure(seen).values() for t in terms)
    # Fewer numbers than an input has leave it to the prior what the input is; otherwise the prior only blurs it.
    prior = "0" if views[0].task.domain.name != "pixels" else "1e-3" if numbers < prod(views[0].shape) else "1e-6"
    attack = ATTACKS.parse(LISTENER + prior)
    residual = {n: t.clone() for n, t in scheme.kept_back(first.held, Layout.of_model(views[0].model)).items()}
    if first.carried and not residual:
        return f"what was kept back before round {first.round} is not recorded: record from the first round on"
    try:
        heard = listen(views, attack, residual, settings.seed, settings.device, progress)
    except GradwireError as error:
        return f"what was kept back of earlier rounds was not found: {error}"
    return heard


def _at_least_alone(guess: Guess, names: Sequence[str]) -> Guess:
    """The guess in which a listener, who may leave aside what was heard, takes the answer that explains more."""
    if HEARD not in names:
        return guess
    alone, heard = names.index("adaptive"), names.index(HEARD)
    if not float(guess.objective[alone]) < float(guess.objective[heard]):
        return guess
    take = torch.arange(len(names))
    take[heard] = alone
    return replace(
        guess,
        inputs=guess.inputs[take],
        targets=guess.targets[take],
        objective=guess.objective[take],
        expected=tuple(guess.expected[i] for i in take) if guess.expected else (),
        solved=tuple(guess.solved[i] for i in take) if guess.solved else (),
        value=None,
    )


def _as_recorded(settings: AuditSettings, recording: RecordedRound, told: Mapping[str, object]) -> AuditSettings:
    """The settings with the batch and the mode that were recorded, which nobody may have told otherwise."""
    if settings.batch != AuditSettings.batch:
        told = {"batch": settings.batch, **told}
    known: dict[str, Any] = {"batch": recording.batch} if recording.batch else {}
    if recording.evaluated is not None:
        known["mode"] = "eval" if "" in recording.evaluated else "train"
    for name, recorded in known.items():
        if told.get(name, recorded) != recorded:
            raise GradwireError(f"--{name} is {told[name]}; round {recording.round} was recorded with {recorded}")
    return replace(settings, **known)


def _truth(path: str | Path, shape: tuple[int, ...], domain: Domain) -> Truth:
    """The batch in a file of torch.save."""
    try:
        batch = torch.load(path, weights_only=True)
        inputs, targets = batch["inputs"], batch["targets"]
    except OSError as error:
        raise GradwireError(f"--truth {path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, UnpicklingError) as error:
        why = str(error).splitlines()[0]
        raise GradwireError(f"--truth {path} is not {{'inputs': …, 'targets': …}} of torch.save: {why}") from None
    if tuple(inputs.shape) != shape:
        raise GradwireError(f"--truth {path} holds inputs {tuple(inputs.shape)}; the recorded batch is {shape}")
    domain.score(domain.snapped(inputs)[None], inputs[None])  # refuses what no input can be, before the attack
    return inputs, targets


def _doubts_of(truth: Truth, problem: Problem, path: object, device: str) -> list[str]:
    """A note where what was sent is not the gradient of this batch, as far as a plain one can be compared with it."""
    if len(problem.clients) > 1 or problem.deviation:
        return []
    inputs, targets = (each[None].to(device) for each in truth)
    match = Match.of([problem], device, sought=True)
    off = float((match.distance(inputs, targets) / match.stack.energy).detach())
    if off < ANOTHER:
        return []
    whose = "it is of another step or worker, or scaled in another way than the network took it"
    return [f"--truth {path} leaves {off:.0%} of what was sent unexplained: {whose}, and scores by it tell nothing"]


def _scores(guess: Guess, truth: Truth, task: Task) -> dict[str, Sequence[object]]:
    """The columns that need the truth: a value for each of the guess's rows."""
    domain, rows = task.domain, len(guess.inputs)
    inputs, targets = (each[None].expand(rows, *each.shape) for each in truth)
    scores = domain.score(domain.matched(guess.inputs, inputs), inputs)
    success = domain.success(scores).tolist()
    return {
        **{name: score.tolist() for name, score in scores.items()},
        "success": list(map(int, success)),
        "verdict": verdicts(guess, inputs, targets, success),
    }


def _until(rounds: Mapping[int, RecordedRound], last: int | None, client: str) -> list[RecordedRound]:
    """The rounds up to one of them, as far back as none is missing, of another scheme or without the client."""
    numbers = sorted(rounds)
    if last is not None and last not in numbers:
        raise GradwireError(f"round {last} is not recorded; recorded are {', '.join(map(str, numbers))}")
    first = last = numbers[-1] if last is None else last
    scheme, victim = rounds[last].scheme, client or rounds[last].victim
    while (each := rounds.get(first - 1)) is not None and each.scheme == scheme and victim in each.clients:
        first -= 1
    return [rounds[number] for number in range(first, last + 1)]


def _show(place: Path, domain: Domain, inputs: Tensor) -> None:
    """Write a batch for people: a sheet of pictures, or a line of text an example."""
    cells = domain.cells(inputs)
    if cells is None:
        place.with_name(f"{place.name}.png").write_bytes(contact_sheet(inputs))
        return
    lines = ["".join(f"{c.name}: {c.text}; " if c.name else c.text for c in example).strip() for example in cells]
    place.with_name(f"{place.name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
