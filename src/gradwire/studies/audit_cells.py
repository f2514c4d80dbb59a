"""The cells of an audit: each scheme at the moment of the attack, each victim's views, the problems they pose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradwire import data
from gradwire.attacks.inversion import Knowledge, Problem, PublicExamples, joint
from gradwire.attacks.inversion.memory import rows_that_fit
from gradwire.data import Dataset
from gradwire.data.dataset import fingerprints
from gradwire.errors import GradwireError
from gradwire.models.mode import failure, in_mode
from gradwire.progress import Progress
from gradwire.schemes import State, parse
from gradwire.studies.audit_settings import AuditSettings
from gradwire.tasks import Task
from gradwire.training import TrainingState, TrainSettings, begin, capture, train
from gradwire.training.capture import capture_rounds
from gradwire.wire import View

Truth = tuple[Tensor, Tensor]
"""Inputs and targets."""


@dataclass(frozen=True)
class Situation:
    """One scheme at the moment of the attacked round: the model and the scheme's state as they then are."""

    scheme: str
    model: nn.Module
    public: State | None = None
    private: Mapping[str, State] | None = None


@dataclass(frozen=True)
class AuditCell:
    """One victim's problem, what its rows are filed under, and notes on the training before it.

    Attributes:
        knows: the kinds of knowledge that pose this problem: both, where what was sent is the gradient itself.
    """

    scheme: str
    knows: tuple[Knowledge, ...]
    victim: int
    problem: Problem
    notes: tuple[str, ...] = ()


def load_victims(settings: AuditSettings) -> tuple[AuditSettings, Dataset]:
    """Whom the audit attacks, and the settings with what is usual for such data.

    Raises:
        GradwireError: data that cannot be had, or fewer examples than the parties of all rounds hold.
    """
    victims = data.load(settings.data, settings.split).under(settings.loss)
    needed = settings.samples * settings.batch * settings.parties
    if len(victims) < needed:
        has = f"{settings.data} has {len(victims)} {settings.split} {victims.task.domain.what}"
        fit = len(victims) // (settings.batch * settings.parties)
        offer = f"; --samples {fit} or fewer would do" if fit else ""
        raise GradwireError(f"{has}; this audit needs {needed}: a batch for every party of every victim's round{offer}")
    return settings.of(victims.task), victims


def network(settings: AuditSettings, dataset: Dataset) -> nn.Module:
    """The untrained model that the settings name; GradwireError where it does not take the data's inputs."""
    model = dataset.network(settings.model, settings.seed, not settings.standardised).to(settings.device)
    inputs = dataset.batch([0])[0].to(settings.device)
    try:
        with torch.no_grad(), in_mode(model, "eval"):
            dataset.task.output(model, inputs, targets=dataset.batch([0])[1].to(settings.device))
    except GradwireError:
        raise
    except Exception as error:  # the user's code may raise anything
        shape = tuple(inputs.shape[1:])
        raise GradwireError(f"model {settings.model!r} fails on inputs of shape {shape}: {failure(error)}") from error
    return model


def load_public_examples(settings: AuditSettings, victims: Dataset, parties: int = 0) -> PublicExamples | None:
    """What the adversary has of its own: examples of the training split, none of which a party of the audit holds.

    Where the settings name no number, they are as many as the attacks rehearse with, if the data have them to spare.

    Args:
        parties: of a round. [default: the settings']

    Raises:
        GradwireError: the split is too small for the number that the settings name, or holds a party's example.
    """
    seats = settings.samples * settings.batch * settings.parties
    rehearsed = max(getattr(attack, "rehearsals", 0) for attack in settings.inversions.values())
    if not (wanted := settings.public or rehearsed * (parties or settings.parties) * settings.batch):
        return None
    try:
        dataset = data.load(settings.data, "train").under(settings.loss)
    except GradwireError:
        if settings.public:
            raise
        return None
    first = seats if settings.split == "train" else 0
    what, there = dataset.task.domain.what, max(0, len(dataset) - first)
    if there < settings.public:
        raise GradwireError(f"public is {settings.public}; {settings.data} has {there} training {what} to spare")
    held = set(fingerprints(victims.part(torch.arange(min(seats, len(victims))))))
    spare = torch.arange(first, min(len(dataset), first + wanted + len(held)))
    taken = [digest in held for digest in fingerprints(dataset.part(spare))]
    if settings.public and any(taken[:wanted]):
        held_too = f"training example {first + taken.index(True)} of {settings.data} is one that a party of this audit"
        raise GradwireError(
            f"public is {settings.public}, and {held_too} holds; the adversary's own must be none of them"
        )
    own = spare[~torch.tensor(taken)][:wanted]
    if len(own) < wanted:
        return None
    passed = int(own[-1]) - first + 1 - wanted
    beside = f", {passed} passed over" if passed else ""
    source = f"{settings.data}'s training split ({what} {int(own[0])} to {int(own[-1])}{beside})"
    return PublicExamples(*dataset.batch(own), source)


def chunk_size(settings: AuditSettings, model: nn.Module, task: Task) -> int:
    """Victims that fit into memory at once, with restarts, fellows under one sum, and rounds or steps unrolled.

    Rehearsals are attacked beside the victims of their scheme and knowledge.
    """
    rows = rows_that_fit(model, task, settings.batch, settings.device)
    attacks = settings.inversions.values()
    restarts = max(getattr(attack, "restarts", 1) for attack in attacks)
    rehearsals = max(getattr(attack, "rehearsals", 0) for attack in attacks)
    rows = rows * settings.samples // (settings.samples + rehearsals)
    return max(1, rows // (restarts * settings.parties * settings.rounds * max(1, settings.local_steps)))


def chunks(
    settings: AuditSettings,
    victims: Dataset,
    model: nn.Module,
    public_examples: PublicExamples | None,
    progress: Progress,
) -> Iterator[list[AuditCell]]:
    """The cells of the audit in chunks that are attacked as one batch each: cells that share a model in every round."""
    chunk: list[AuditCell] = []
    for situation in _situations(settings, model, progress):
        for cell in _cells(settings, situation, victims, public_examples):
            if chunk and (len(chunk) == settings.chunk or not chunk[0].problem.shares_model(cell.problem)):
                yield chunk
                chunk = []
            chunk.append(cell)
    if chunk:
        yield chunk


def held(settings: AuditSettings, victims: Dataset, chunk: list[AuditCell]) -> Truth:
    """The truth: inputs (V, n·B, *shape) and targets (V, n·B, …) of the n clients that each cell's problem is about."""

    def joined(cell: AuditCell) -> list[Tensor]:
        parties = [cell.problem.view.clients.index(party) for party in cell.problem.clients]
        batches = [_batch(settings, victims, cell.victim, party) for party in parties]
        return [torch.cat(column).cpu() for column in zip(*batches, strict=True)]

    inputs, targets = map(torch.stack, zip(*map(joined, chunk), strict=True))
    return inputs, targets


def _situations(settings: AuditSettings, model: nn.Module, progress: Progress) -> Iterator[Situation]:
    """Every scheme at the moment of the attack: untrained, they share a model; trained, each has its own."""
    if not settings.trained_rounds:
        yield from (Situation(spec, model) for spec in settings.schemes)
        return
    dataset = data.load(settings.data, "train").under(settings.loss)
    for number, spec in enumerate(settings.schemes):
        how = TrainSettings(
            scheme=spec,
            clients=settings.parties,
            rounds=settings.trained_rounds,
            local_epochs=settings.trained_epochs or None,
            local_steps=None if settings.trained_epochs else settings.local_steps or None,
            momentum=0.0 if settings.local_steps else TrainSettings.momentum,  # a victim's own steps have none
            **{name: getattr(settings, name) for name in ("lr", "seed", "device")},
        )
        state = begin(how, network(settings, dataset))

        def tick(state: TrainingState, _: float, number: int = number) -> None:
            rounds = settings.trained_rounds
            progress("training", number * rounds + state.round, len(settings.schemes) * rounds)

        train(state, how, dataset, after_round=tick)
        yield Situation(spec, state.model, state.public, state.private)


def _cells(
    settings: AuditSettings, situation: Situation, victims: Dataset, public_examples: PublicExamples | None
) -> Iterator[AuditCell]:
    """Capture each victim's rounds under one scheme, and pose the problems, in the order of the kinds of knowledge."""
    views = [_views(settings, situation, victims, victim) for victim in range(settings.samples)]
    accounting = parse(situation.scheme).accounting
    notes = accounting.notes(situation.private) if accounting and situation.private else ()
    cells = list[AuditCell]()
    for victim, seen in enumerate(views):
        posed = [joint(seen, knowledge, salt=victim) for knowledge in settings.knows]
        alone = [((knowledge,), problem) for knowledge, problem in zip(settings.knows, posed, strict=True)]
        for knows, problem in [(settings.knows, posed[-1])] if posed[0].is_also(posed[-1]) else alone:
            problem = replace(problem, public_examples=public_examples)
            cells.append(AuditCell(situation.scheme, knows, victim, problem, notes))
    yield from sorted(cells, key=lambda cell: settings.knows.index(cell.knows[0]))


def _views(settings: AuditSettings, situation: Situation, victims: Dataset, victim: int) -> list[View]:
    """What the adversary sees of one victim's rounds."""
    first, *fellows = (_batch(settings, victims, victim, party) for party in range(settings.parties))
    common: dict[str, Any] = {"task": victims.task, "fellows": fellows, "targets_known": settings.labels == "known"}
    common |= {name: getattr(settings, name) for name in ("adversary", "mode", "seed", "lr")}
    if settings.rounds > 1:
        return capture_rounds(situation.model, *first, situation.scheme, settings.rounds, **common)
    now: dict[str, Any] = {"public": situation.public, "private": situation.private, "round": settings.trained_rounds}
    now |= {"local_steps": settings.local_steps or None, "local_batch": settings.local_batch or None}
    now |= {"weight_decay": settings.weight_decay, "freeze": False}
    inputs, targets = first
    return [capture(situation.model, inputs, targets, situation.scheme, **now, **common)]


def _batch(settings: AuditSettings, victims: Dataset, victim: int, party: int) -> tuple[Tensor, Tensor]:
    """What a party of a victim's round holds: party 0 is the victim, its fellows' come after all victims'."""
    start = (party * settings.samples + victim) * settings.batch
    inputs, targets = victims.batch(range(start, start + settings.batch))
    return inputs.to(settings.device), targets.to(settings.device)
