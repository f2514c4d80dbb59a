"""A wiretap: what candidates have in common with what each client sent in the last rounds of a training."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradwire.attacks.membership import WireStatistics, observe
from gradwire.seeds import generator
from gradwire.studies.membership.shadow_experiment import ShadowExperiment, ShadowTraining
from gradwire.training import TrainingState, capture


@dataclass
class Wiretap:
    """The server's, on one model's training; each round heard is reduced to wire statistics at once.

    Attributes:
        candidates: positions in the pool, int64 (w,): the examples that were in some client's batch of a round that is
            heard, and as many that the whole training never saw.
        held: bool (V, w): which of them each victim had in its batches; a sum of all clients has one victim.
        heard: knowledge → wire statistics, a round at a time.
    """

    experiment: ShadowExperiment
    training: ShadowTraining
    candidates: Tensor
    held: Tensor
    heard: dict[str, list[WireStatistics]] = field(default_factory=dict)

    @classmethod
    def on(cls, experiment: ShadowExperiment, training: ShadowTraining) -> "Wiretap":
        """A wiretap on this training; it has no candidates where no attack is on the wire."""
        settings, run, plain = experiment.settings, training.run, experiment.plain
        first = experiment.rounds - (settings.watched if settings.wire_attacks else 0)
        used = torch.zeros(run.clients, len(experiment.stored), dtype=torch.bool)
        for round in range(first, experiment.rounds):
            for index, chosen in enumerate(training.batches(round)):
                used[index, training.own[chosen]] = True
        used = used[:, : len(plain)] & plain
        unseen = plain.index_fill(0, training.own[training.own < len(plain)], False)
        seen, others = used.any(0).nonzero().squeeze(1), unseen.nonzero().squeeze(1)
        drawn = torch.randperm(len(others), generator=generator("unseen", run.seed))[: len(seen)]
        candidates = torch.cat([seen, others[drawn].sort().values])
        held = used[:, candidates]
        alone = settings.victims(run.scheme) == run.clients
        return cls(experiment, training, candidates, held if alone else held.any(0, keepdim=True))

    def hear(self, state: TrainingState, _: float = 0.0) -> None:
        """Hear the next round, if it is one of those to be heard; called after every round, with its loss."""
        settings, run = self.experiment.settings, self.training.run
        if not len(self.candidates) or not 0 < self.experiment.rounds - state.round <= settings.watched:
            return
        batches = [self.training.part.batch(chosen) for chosen in self.training.batches(state.round)]
        victim, *fellows = [(inputs.to(run.device), targets.to(run.device)) for inputs, targets in batches]
        now = {name: getattr(state, name) for name in ("private", "public", "round")} | {"seed": run.seed}
        task = self.training.part.task
        view = capture(state.model, *victim, run.scheme, task=task, fellows=fellows, freeze=False, **now)
        views = [replace(view, victim=party) for party in view.clients[: len(self.held)]]
        inputs, targets = self.experiment.pool.batch(self.candidates)
        for knowledge, statistics in observe(views, inputs, targets, settings.knows, device=run.device).items():
            self.heard.setdefault(knowledge, []).append(statistics)

    def record(self) -> dict[str, Tensor]:
        """What was heard, as tensors by name."""
        found = {"candidates": self.candidates, "held": self.held} if self.heard else {}
        for knowledge, rounds in self.heard.items():
            found |= {f"{knowledge}/{name}": tensor for name, tensor in vars(WireStatistics.join(rounds)).items()}
        return found
