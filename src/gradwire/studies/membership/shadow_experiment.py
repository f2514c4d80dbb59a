"""The shadow experiment: the candidates of a membership run, and which of them each model is trained on."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gradwire import data
from gradwire.data import Dataset, partition
from gradwire.data.dataset import fingerprints
from gradwire.errors import GradwireError
from gradwire.schemes import guarantees, parse
from gradwire.seeds import generator
from gradwire.studies.membership.canaries import plant
from gradwire.studies.membership.queries import query
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.training import TrainingState, TrainSettings, begin, gradient
from gradwire.training.batches import batch_indices
from gradwire.training.loop import planned, train_round
from gradwire.training.plain import fits
from gradwire.wire import InProcess, Transcript, client


@dataclass(frozen=True, eq=False)
class ShadowTraining:
    """One model before its training.

    Attributes:
        own: positions among all that is stored of the model's half, int64; `part`: the half itself.
        shards: positions in `part`, one tensor a client.
    """

    run: TrainSettings
    state: TrainingState
    own: Tensor
    part: Dataset
    shards: list[Tensor]

    def batches(self, round: int) -> list[Tensor]:
        """Each client's batch in a round, as positions in `part`."""
        run = self.run
        return [batch_indices(s, client(i), round, run.batch_size, run.seed) for i, s in enumerate(self.shards)]


@dataclass(frozen=True, eq=False)
class ShadowExperiment:
    """What all models of a run have in common: a function of its settings.

    Attributes:
        settings: with what is usual for the task where nothing was said.
        pool: the candidates, canaries among them; `population`: examples that no model is trained on.
        stored: the pool and, behind it, the examples in whose places canaries are.
        canaries: their positions in the pool, int64.
        members: bool (models, candidates): which candidates each model is trained on.
        repeated: how many examples were left out of the pool, for they repeat earlier ones.
    """

    settings: MembershipSettings
    pool: Dataset
    stored: Dataset
    population: Dataset
    canaries: Tensor
    members: Tensor
    repeated: int

    @cached_property
    def plain(self) -> Tensor:
        """Which candidates are no canaries, bool (candidates,)."""
        return torch.ones(len(self.pool), dtype=torch.bool).index_fill(0, self.canaries, False)

    @cached_property
    def rounds(self) -> int:
        """Rounds that each model is trained for: as many passes as asked for."""
        return self.settings.epochs * (self.places // (self.settings.clients * self.settings.batch_size))

    @cached_property
    def places(self) -> int:
        """Examples of a training: half of the candidates, and every canary or what stands in for it."""
        return (len(self.pool) - len(self.canaries)) // 2 + len(self.canaries)

    def network(self, seed: int) -> nn.Module:
        """A network before training."""
        return self.pool.network(self.settings.model, seed)

    def begin(self, scheme: str, model: int) -> ShadowTraining:
        """One of the models before its training with a scheme."""
        run, members = self.settings.training(scheme, model, self.rounds), self.members[model]
        own = members.index_fill(0, self.canaries, True).nonzero().squeeze(1)
        out = ~members[own]
        # Whether a canary is in decides neither who has its place nor how likely any example is in a batch.
        shards = partition.split(run.partition, self.pool.targets[own], run.clients, run.seed)
        if not run.poisson:
            own = torch.where(out, len(self.pool) + torch.searchsorted(self.canaries, own), own)
        else:
            rate = min(1.0, run.clients * run.batch_size / self.places)
            run, shards = replace(run, sampling=f"poisson:{rate!r}"), [shard[~out[shard]] for shard in shards]
        return ShadowTraining(run, begin(run, self.network(run.seed)), own, self.stored.part(own), shards)

    def together(self, scheme: str) -> int:
        """The size of a shadow batch: how many models are trained together, and finished together."""
        network, task = self.network(0), self.pool.task
        size = self.settings.speed.lot(network, self.settings.device)
        return size if fits(self.settings.training(scheme, 0, self.rounds), network, task=task) else 1


def shadow_experiment(settings: MembershipSettings) -> ShadowExperiment:
    """Load the data, plant the canaries, draw the halves. The last experiment is kept.

    Raises:
        GradwireError: data that cannot be had, or that these settings do not suit.
    """
    if not settings.model or not settings.loss or settings.attacks is None:
        # A few examples tell the task.
        few = data.load(settings.data, "train", settings.clients * settings.batch_size)
        settings = settings.of(few.under(settings.loss).task)
    return _shadow_experiment(settings)


@lru_cache(maxsize=1)
def _shadow_experiment(settings: MembershipSettings) -> ShadowExperiment:
    loaded = data.load(settings.data, "train").under(settings.loss)
    settings.of(loaded.task)
    different = _different(loaded)
    pool, canaries = plant(different, settings.canaries, settings.seed)
    inputs, targets = (
        torch.cat([now, before[canaries]])
        for now, before in ((pool.inputs, different.inputs), (pool.targets, different.targets))
    )
    stored = replace(pool, inputs=inputs, targets=targets)
    population = _outsiders(pool, data.load(settings.data, "test", settings.population).under(settings.loss))
    members = halves(settings.shadows, len(pool), canaries, settings.seed)
    repeated = len(loaded) - len(different)
    experiment = ShadowExperiment(settings, pool, stored, population, canaries, members, repeated)
    _check(experiment)
    return experiment


def _different(pool: Dataset) -> Dataset:
    """The examples whose inputs do not repeat earlier ones: a copy could be a member where the other is none."""
    first: dict[bytes, int] = {}
    for position, digest in enumerate(fingerprints(pool)):
        first.setdefault(digest, position)
    return pool if len(first) == len(pool) else pool.part(torch.tensor(list(first.values())))


def _outsiders(pool: Dataset, population: Dataset) -> Dataset:
    """The population without copies of candidates."""
    known = set(fingerprints(pool))
    own = torch.tensor([digest not in known for digest in fingerprints(population)])
    if not own.any():
        what = pool.task.domain.what
        raise GradwireError(f"all {len(population)} {what} of the population are candidates too; it needs others")
    return population.part(own)


def halves(models: int, candidates: int, canaries: Tensor, seed: int) -> Tensor:
    """Which candidates each model is trained on, bool (models, candidates): a random half, and canaries by a coin each.

    Each model's half is drawn on its own. If each candidate were in exactly half of the models, the number of the other
    models that have it would show whether the target has it.
    """
    members = torch.zeros(models, candidates, dtype=torch.bool)
    others = torch.ones(candidates, dtype=torch.bool).index_fill(0, canaries, False).nonzero().squeeze(1)
    for model, row in enumerate(members):
        random = generator("half", seed, model)
        row[others[torch.randperm(len(others), generator=random)[: len(others) // 2]]] = True
        row[canaries] = torch.rand(len(canaries), generator=random) < 0.5
    return members


def _check(experiment: ShadowExperiment) -> None:
    """Refuse what these settings and data cannot do, before anything is trained."""
    settings, pool = experiment.settings, experiment.pool
    trial = torch.arange(min(2, len(pool)))
    if pool.classes:
        counts = pool.targets.bincount(minlength=len(pool.classes))
        if (counts < 2).any():
            few = f"class {pool.classes[int(counts.argmin())]!r} has {int(counts.min())} of the {len(pool)} candidates"
            raise GradwireError(f"{few}; it needs 2, so that there can be a member and a non-member of it")
        trial = torch.stack([pool.targets.argmin(), pool.targets.argmax()])
    if any(attack.by_class for attack in settings.query_attacks.values()):
        _check_classes(experiment)
    if settings.clients * settings.batch_size > experiment.places:
        asked = f"{settings.clients} clients with batches of {settings.batch_size} need as many members"
        raise GradwireError(f"{asked}; half of the {len(pool)} candidates are {experiment.places}")
    # A model that cannot be trained on these examples, or lacks a class, is refused here; so are augmentations of what
    # is no image, and a loss that has no signals.
    network = experiment.network(0)
    gradient(network, *pool.batch(trial), mode="eval", task=pool.task)
    query(network, pool.part(trial), settings.augment, "cpu")
    if settings.wire_attacks and settings.watched > experiment.rounds:
        there = f"a training of {settings.epochs} epochs has {experiment.rounds}"
        raise GradwireError(f"watched is {settings.watched}; {there}")
    for spec in settings.schemes:
        # A scheme that these clients cannot use is refused in a first round.
        first, transport = experiment.begin(spec, 0), InProcess(Transcript(keep=0))
        training = first.state, first.run, first.part, first.shards, transport
        train_round(*training, planned(*training))
        if settings.canaries:
            guarantees(parse(spec), first.state.private)


def _check_classes(experiment: ShadowExperiment) -> None:
    """Refuse halves in which a class is all in or all out, for it can have no threshold of its own."""
    pool = experiment.pool
    kinds = one_hot(pool.targets, pool.outputs) * experiment.plain[:, None]
    inside, total = experiment.members.long() @ kinds, kinds.sum(0)
    lacking = (inside == 0) | (inside == total)
    if lacking.any():
        model, label = lacking.nonzero()[0].tolist()
        what = "members" if inside[model, label] == 0 else "non-members"
        lacks = (
            f"class {pool.classes[label]!r} has no {what} for model {model} among its {int(total[label])} candidates"
        )
        raise GradwireError(f"{lacks}; thresholds by class need both: take more candidates or another seed")
