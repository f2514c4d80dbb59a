"""One lot of models: trained with the target's own scheme, asked about every candidate, and forgotten."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradwire.attacks.membership import Signals, signals
from gradwire.data import Dataset, augment, partition
from gradwire.models.mode import forward, in_mode
from gradwire.schemes import Layout, parse
from gradwire.studies.membership.shadow_experiment import ShadowExperiment
from gradwire.studies.membership.wiretap import Wiretap
from gradwire.training import TrainingState, TrainSettings, begin, train
from gradwire.training.batches import schedule
from gradwire.training.plain import fit, fits, resident, unit
from gradwire.wire import InProcess, Transcript

Record = dict[str, Tensor]
"""What is kept of one model: its signals on candidates and, under "population/", on images that no model was trained
on; its "seconds" of training; bytes that a client sent and got in a round, and dense bytes ÷ bytes up; "epsilon" and
"delta" that its scheme guarantees, where canaries are to put them to the test; and, under "naive/" and "adaptive/",
what a wiretap noted."""

POPULATION = "population/"


@dataclass(frozen=True, eq=False)
class Trainee:
    """One model in training.

    Attributes:
        part: its half of the candidates; `own`, their positions in the pool; `shards`, who of its clients has which.
    """

    run: TrainSettings
    state: TrainingState
    part: Dataset
    own: Tensor
    shards: list[Tensor]
    tap: Wiretap

    @classmethod
    def of(cls, ground: ShadowExperiment, scheme: str, number: int) -> "Trainee":
        """A model before its training."""
        run, own = ground.training(scheme, number), ground.members[number].nonzero().squeeze(1)
        part = replace(ground.pool, images=ground.pool.images[own], labels=ground.pool.labels[own])
        shards = partition.split(run.partition, part.labels, run.clients, run.seed)
        state = begin(run, ground.network(run.seed))
        return cls(run, state, part, own, shards, Wiretap.on(ground, run, number, part, shards))


def train_batch(ground: ShadowExperiment, scheme: str, numbers: Sequence[int]) -> list[Record]:
    """The records of these models, trained as one batch where that is possible.

    Where plain steps come to the same as rounds, they make up all of the training but its last rounds: those that a
    wiretap hears, and at least one, of which bytes are counted.
    """
    settings = ground.settings
    lot = [Trainee.of(ground, scheme, number) for number in numbers]
    started = time.perf_counter()
    if all(fits(each.run, each.state.model, each.shards) for each in lot):
        until = ground.rounds - max(1, settings.watched if settings.taps else 0)
        chosen = [each.own[schedule(each.shards, until, each.run.batch_size, each.run.seed)] for each in lot]
        images, labels = resident(ground.pool, settings.device)
        fit([each.state for each in lot], lot[0].run, images, labels, chosen, settings.speed)
    records = [_play(each, bool(settings.canaries)) for each in lot]
    seconds = (time.perf_counter() - started) / len(lot)
    for record, each in zip(records, lot, strict=True):
        record["seconds"] = torch.tensor(seconds, dtype=torch.float64)
        for prefix, asked in (("", ground.pool), (POPULATION, ground.population)):
            said = answers(each.state.model, asked, settings.augment, settings.device)
            record |= {f"{prefix}{name}": tensor for name, tensor in vars(said).items()}
    return records


def _play(trainee: Trainee, audited: bool) -> Record:
    """Play what is left of a training over the wire, and keep what it cost, what was heard and what was guaranteed."""
    state, run, tap = trainee.state, trainee.run, trainee.tap
    sent = run.clients * (run.rounds - state.round)
    tap.hear(state)
    train(state, run, trainee.part, InProcess(Transcript(keep=0)), tap.after_round)
    dense, promised = 4 * Layout.of_model(state.model).size, None
    if audited:
        promised = parse(run.scheme).guarantee(state.private)
    figures = {
        "bytes_up": state.bytes_up / sent,
        "bytes_down": state.bytes_down / sent,
        "ratio": dense * sent / state.bytes_up,
        **({} if promised is None else {"epsilon": promised[0], "delta": promised[1]}),
    }
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()} | tap.notes()


@torch.no_grad()
def answers(model: nn.Module, dataset: Dataset, spec: str, device: str, batch: int = 500) -> Signals:
    """What a model says of every image in every augmentation, shape (N, A), float64, on the CPU."""
    found = []
    with in_mode(model, "eval"):
        for images, labels in zip(dataset.images.split(batch), dataset.labels.split(batch), strict=True):
            several = augment.views(unit(images.to(device)), spec)
            logits = forward(model, several.flatten(0, 1)).unflatten(0, several.shape[:2])
            found.append(signals(logits.cpu(), labels))
    return Signals(*(torch.cat(column) for column in zip(*(vars(s).values() for s in found), strict=True)))
