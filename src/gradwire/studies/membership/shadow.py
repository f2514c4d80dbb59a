"""One lot of models: trained with the target's own scheme, asked about every candidate, and forgotten."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradwire.attacks.membership import Signals, signals
from gradwire.data import Dataset, augment, partition
from gradwire.schemes import Layout
from gradwire.studies.membership.ground import Ground
from gradwire.studies.membership.wiretap import Wiretap
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import schedule
from gradwire.training.gradient import in_mode
from gradwire.training.plain import fit, fits, resident, unit
from gradwire.wire import InProcess, Transcript

Record = dict[str, Tensor]
"""What is kept of one model: its signals on candidates and, under "population/", on images that no model was trained
on; its "seconds" of training; bytes that a client sent and got in a round, and dense bytes ÷ bytes up; and, under
"naive/" and "adaptive/", what a wiretap noted."""

POPULATION = "population/"


def train_lot(ground: Ground, scheme: str, numbers: Sequence[int]) -> list[Record]:
    """The records of these models, trained as one batch where that is possible.

    Where plain steps come to the same as rounds, they make up all of the training but its last rounds: those that a
    wiretap hears, and at least one, of which bytes are counted.
    """
    device = ground.settings.device
    runs = [ground.training(scheme, number) for number in numbers]
    states = [begin(run, ground.network(run.seed)) for run in runs]
    parts = [_part(ground, number, run) for number, run in zip(numbers, runs, strict=True)]
    taps = [
        Wiretap.on(ground, run, number, part, shards)
        for number, run, (part, shards) in zip(numbers, runs, parts, strict=True)
    ]
    started = time.perf_counter()
    heard = max(1, ground.settings.watched if ground.settings.taps else 0)
    if all(fits(run, state.model, shards) for run, state, (_, shards) in zip(runs, states, parts, strict=True)):
        until = ground.rounds - heard
        schedules = [
            ground.members[number].nonzero().squeeze(1)[schedule(shards, until, run.batch_size, run.seed)]
            for number, run, (_, shards) in zip(numbers, runs, parts, strict=True)
        ]
        fit(states, runs[0], *resident(ground.pool, device), schedules, ground.settings.speed)
    records = []
    for state, run, (part, _), tap in zip(states, runs, parts, taps, strict=True):
        played = ground.rounds - state.round
        tap.hear(state)
        train(state, run, part, InProcess(Transcript(keep=0)), tap.after_round)
        sent, got = (count / (played * run.clients) for count in (state.bytes_up, state.bytes_down))
        figures = {"bytes_up": sent, "bytes_down": got, "ratio": 4 * Layout.of_model(state.model).size / sent}
        records.append(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()} | tap.notes()
        )
    each = (time.perf_counter() - started) / len(numbers)
    for record, state in zip(records, states, strict=True):
        record["seconds"] = torch.tensor(each, dtype=torch.float64)
        record |= vars(answers(state.model, ground.pool, ground.settings.augment, device))
        asked = vars(answers(state.model, ground.population, ground.settings.augment, device))
        record |= {f"{POPULATION}{name}": tensor for name, tensor in asked.items()}
    return records


@torch.no_grad()
def answers(model: nn.Module, dataset: Dataset, spec: str, device: str, batch: int = 500) -> Signals:
    """What a model says of every image in every augmentation, shape (N, A), float64, on the CPU."""
    found = []
    with in_mode(model, "eval"):
        for images, labels in zip(dataset.images.split(batch), dataset.labels.split(batch), strict=True):
            several = augment.views(unit(images), spec)
            logits = model(several.flatten(0, 1).to(device)).unflatten(0, several.shape[:2])
            found.append(signals(logits.cpu(), labels))
    return Signals(*(torch.cat(column) for column in zip(*(vars(s).values() for s in found), strict=True)))


def _part(ground: Ground, number: int, run: TrainSettings) -> tuple[Dataset, list[Tensor]]:
    """A model's half of the candidates, and how its clients share it."""
    own = ground.members[number]
    part = replace(ground.pool, images=ground.pool.images[own], labels=ground.pool.labels[own])
    return part, partition.split(run.partition, part.labels, run.clients, run.seed)
