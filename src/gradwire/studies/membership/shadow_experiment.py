"""What all models of a membership run have in common: the candidates, and whom of them each model is trained on."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gradwire import data, models
from gradwire.data import Dataset, partition
from gradwire.data.dataset import copy_within, fingerprints
from gradwire.errors import GradwireError
from gradwire.schemes import guarantee, parse
from gradwire.seeds import generator
from gradwire.studies.membership.canaries import plant
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.training import TrainSettings, begin, gradient
from gradwire.training.loop import planned, train_round
from gradwire.training.plain import fits
from gradwire.wire import InProcess, Transcript


@dataclass(frozen=True, eq=False)
class ShadowExperiment:
    """The ground that a run stands on: a function of its settings.

    Attributes:
        pool: the candidates, canaries among them; `population`: images that no model is trained on.
        canaries: which candidates they are, int64.
        members: bool (models, candidates): whom each model is trained on.
    """

    settings: MembershipSettings
    pool: Dataset
    population: Dataset
    canaries: Tensor
    members: Tensor

    @cached_property
    def rounds(self) -> int:
        """Rounds that each model is trained for: as many passes as asked for, over the smallest half."""
        return self.settings.epochs * (self.fewest // (self.settings.clients * self.settings.batch_size))

    @cached_property
    def fewest(self) -> int:
        """The size of the smallest half."""
        return int(self.members.sum(1).min())

    def training(self, scheme: str, model: int) -> TrainSettings:
        """The settings of one model's training."""
        return self.settings.training(scheme, model, self.rounds)

    def network(self, seed: int) -> nn.Module:
        """A network before training."""
        pool = self.pool
        return models.build(self.settings.model, pool.shape, pool.num_classes, pool.mean, pool.std, seed)

    def lot(self, scheme: str) -> int:
        """How many models are trained as one batch, and finished together."""
        network = self.network(0)
        together = self.settings.speed.lot(network, self.settings.device)
        return together if fits(self.training(scheme, 0), network) else 1


@lru_cache(maxsize=1)
def ground(settings: MembershipSettings) -> ShadowExperiment:
    """Load the data, plant the canaries, draw the halves.

    Raises:
        GradwireError: data that cannot be had, or that these settings do not suit.
    """
    pool, canaries = plant(data.load(settings.data, "train"), settings.canaries, settings.seed)
    population = _outsiders(pool, data.load(settings.data, "test", settings.population))
    found = ShadowExperiment(
        settings, pool, population, canaries, halves(settings.shadows, len(pool), canaries, settings.seed)
    )
    _check(found)
    return found


def _outsiders(pool: Dataset, population: Dataset) -> Dataset:
    """The population without copies of candidates.

    Raises:
        GradwireError: a candidate that is there twice, and could be a member and a non-member of one model; a
            population of copies alone.
    """
    prints = fingerprints(pool)
    twice = copy_within(prints)
    if twice is not None:
        raise GradwireError(
            f"candidates {twice[0]} and {twice[1]} are the same image, so that members and non-members could overlap; "
            "keep one of them"
        )
    known = set(prints)
    own = torch.tensor([digest not in known for digest in fingerprints(population)])
    if not own.any():
        raise GradwireError(f"all {len(population)} images of the population are candidates too; it needs others")
    return replace(population, images=population.images[own], labels=population.labels[own])


def halves(models: int, candidates: int, canaries: Tensor, seed: int) -> Tensor:
    """Whom each model is trained on, bool (models, candidates): a random half, and of the canaries whom its coins say.

    Each model's half is drawn on its own. Were candidates dealt out so that each is in exactly half of the models, then
    how many of the others have one would say whether the target does.
    """
    members = torch.zeros(models, candidates, dtype=torch.bool)
    plain = torch.ones(candidates, dtype=torch.bool)
    plain[canaries] = False
    others = plain.nonzero().squeeze(1)
    for model, row in enumerate(members):
        random = generator("half", seed, model)
        row[others[torch.randperm(len(others), generator=random)[: len(others) // 2]]] = True
        row[canaries] = torch.rand(len(canaries), generator=random) < 0.5
    return members


def _check(found: ShadowExperiment) -> None:
    settings, pool = found.settings, found.pool
    counts = pool.labels.bincount(minlength=pool.num_classes)
    if (counts < 2).any():
        empty = int(counts.argmin())
        raise GradwireError(
            f"class {pool.classes[empty]!r} has {int(counts[empty])} of the {len(pool)} candidates; it needs 2, "
            "so that there can be a member and a non-member of it"
        )
    if any(attack.by_class for attack in settings.asks.values()):
        _check_classes(found)
    if settings.clients * settings.batch_size > found.fewest:
        raise GradwireError(
            f"{settings.clients} clients with batches of {settings.batch_size} need as many members; half of the "
            f"{len(pool)} candidates are {found.fewest}"
        )
    # A model that cannot be trained on these images, or lacks a class, says so here.
    gradient(found.network(0), *pool.batch([int(pool.labels.argmin()), int(pool.labels.argmax())]), mode="eval")
    if settings.taps and settings.watched > found.rounds:
        raise GradwireError(f"watched is {settings.watched}; a training of {settings.epochs} epochs has {found.rounds}")
    for scheme in settings.schemes:
        _rehearse(found, scheme)


def _rehearse(found: ShadowExperiment, scheme: str) -> None:
    """Play one round, so that a scheme which these clients cannot use says so before anything is trained."""
    run, own = found.training(scheme, 0), found.members[0]
    part = replace(found.pool, images=found.pool.images[own], labels=found.pool.labels[own])
    shards = partition.split(run.partition, part.labels, run.clients, run.seed)
    state, transport = begin(run, found.network(run.seed)), InProcess(Transcript(keep=0))
    train_round(state, run, part, shards, transport, planned(state, run, part, shards, transport))
    if found.settings.canaries:
        guarantee(parse(scheme), state.private)


def _check_classes(found: ShadowExperiment) -> None:
    """Refuse halves in which a class is all in or all out: it could have no threshold of its own."""
    kinds = one_hot(found.pool.labels, found.pool.num_classes)
    kinds[found.canaries] = 0
    inside, total = found.members.long() @ kinds, kinds.sum(0)
    lacking = (inside == 0) | (inside == total)
    if lacking.any():
        model, label = lacking.nonzero()[0].tolist()
        what = "members" if inside[model, label] == 0 else "non-members"
        raise GradwireError(
            f"class {found.pool.classes[label]!r} has no {what} for model {model} among its {int(total[label])} "
            "candidates; thresholds by class need both: take more candidates or another seed"
        )
