"""Listening in on the last rounds of a training: what candidates have in common with what each client sent."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradwire.attacks.membership import WireStatistics, observe
from gradwire.data import Dataset
from gradwire.seeds import generator
from gradwire.studies.membership.shadow_experiment import ShadowExperiment
from gradwire.training import TrainingState, TrainSettings, capture
from gradwire.training.batches import batch_indices
from gradwire.wire import client


@dataclass
class Wiretap:
    """On one model's training, by the server; what it hears is reduced to traces at once, round by round.

    Candidates are the examples that were in some client's batch of a round that is heard, and as many that the whole
    training never saw.

    Attributes:
        candidates: positions in the pool, int64 (w,).
        held: bool (V, w): which of them each victim had in its batches; a sum of all clients has one victim.
        traces: knowledge → what was heard, a round at a time.
    """

    ground: ShadowExperiment
    run: TrainSettings
    part: Dataset
    shards: Sequence[Tensor]
    candidates: Tensor
    held: Tensor
    traces: dict[str, list[WireStatistics]] = field(default_factory=dict)

    @classmethod
    def on(
        cls, ground: ShadowExperiment, run: TrainSettings, number: int, part: Dataset, shards: Sequence[Tensor]
    ) -> "Wiretap":
        """A wiretap on the training of this model. Where no attack listens, there are no candidates."""
        own = ground.members[number].nonzero().squeeze(1)
        first = ground.rounds - (ground.settings.watched if ground.settings.taps else 0)
        used = torch.zeros(run.clients, len(ground.pool), dtype=torch.bool)
        for index, shard in enumerate(shards):
            for round in range(first, ground.rounds):
                used[index, own[batch_indices(shard, client(index), round, run.batch_size, run.seed)]] = True
        used[:, ground.canaries] = False
        seen = used.any(0).nonzero().squeeze(1)
        unseen = ~ground.members[number]
        unseen[ground.canaries] = False
        others = unseen.nonzero().squeeze(1)
        drawn = torch.randperm(len(others), generator=generator("unseen", run.seed))[: len(seen)]
        candidates = torch.cat([seen, others[drawn].sort().values])
        held = used[:, candidates]
        alone = ground.settings.victims(run.scheme) == run.clients
        return cls(ground, run, part, shards, candidates, held if alone else held.any(0, keepdim=True))

    def hear(self, state: TrainingState) -> None:
        """The round that comes next, if it is one of those to be heard."""
        last = self.ground.rounds - state.round
        if not len(self.candidates) or not 0 < last <= self.ground.settings.watched:
            return
        run, batches = self.run, []
        for index, shard in enumerate(self.shards):
            chosen = batch_indices(shard, client(index), state.round, run.batch_size, run.seed)
            images, labels = self.part.batch(chosen)
            batches.append((images.to(run.device), labels.to(run.device)))
        view = capture(
            state.model,
            *batches[0],
            run.scheme,
            fellows=batches[1:],
            private=state.private,
            public=state.public,
            round=state.round,
            seed=run.seed,
            freeze=False,
        )
        views = [replace(view, victim=party) for party in view.clients[: len(self.held)]]
        images, labels = self.ground.pool.batch(self.candidates)
        heard = observe(views, images, labels, self.ground.settings.knows, device=run.device)
        for knowledge, traces in heard.items():
            self.traces.setdefault(knowledge, []).append(traces)

    def after_round(self, state: TrainingState, _: float) -> None:
        """To be called after a round: hears the next one."""
        self.hear(state)

    def notes(self) -> dict[str, Tensor]:
        """What was heard, as tensors by name."""
        found = {"candidates": self.candidates, "held": self.held} if self.traces else {}
        for knowledge, rounds in self.traces.items():
            found |= {f"{knowledge}/{name}": tensor for name, tensor in vars(WireStatistics.join(rounds)).items()}
        return found
