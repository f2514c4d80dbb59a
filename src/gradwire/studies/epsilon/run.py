"""The run of `gradwire epsilon`: schemes × kinds of canaries; each trains, is heard, and is judged."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gradwire import data
from gradwire.data import Dataset, partition
from gradwire.metrics.epsilon import distance_bound, one_run_bound
from gradwire.progress import Progress, silent
from gradwire.report import EPSILON_COLUMNS
from gradwire.rounds import run_round
from gradwire.runs import Row, RunFolder
from gradwire.schemes import Contribution, Layout, Observation, Round, guarantees, parameters, parse
from gradwire.schemes.accounting import gaussian_epsilon
from gradwire.seeds import generator
from gradwire.studies.epsilon.canaries import Canaries, Dirac, Inputs, Listener, Planted, right
from gradwire.studies.epsilon.settings import EpsilonSettings, canaries
from gradwire.training import TrainingState, begin, optimizer
from gradwire.training.client import Computation, Descent, contribution
from gradwire.training.gradient import example_gradients
from gradwire.wire import InProcess, Message, Transcript, client

Batch = tuple[Tensor, Tensor]


def run_epsilon(settings: EpsilonSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Train with each scheme and kind of canaries, guess the coins from the wire, and return the folder.

    A row is one run. `right` of its `canaries` coins, those of all clients, were guessed. `epsilon` is what this proves
    of a mechanism whose noise is Gaussian and independent between entries and clients (`distance_bound`, brought to δ);
    with n runs at the level 1 − (1 − confidence)/n, so that all hold together. `epsilon_any` is what it proves of any
    mechanism, at 95 % (`one_run_bound`, in which δ leaves no room for more).

    Raises:
        GradwireError: settings that the data or the network do not suit, or a folder that cannot be written.
    """
    dataset = data.load(settings.data, "train").under(settings.loss)
    settings = replace(settings, model=settings.model or dataset.task.network, loss=dataset.task.loss.name)
    runs = [(scheme, spec) for scheme in settings.audited for spec in settings.canary]
    audits = [EpsilonAudit.of(settings, dataset, scheme, spec) for scheme, spec in runs]
    folder = RunFolder.create(out, "epsilon", EPSILON_COLUMNS)
    folder.configure("epsilon", asdict(settings), NOTES)
    for done, (audit, (_, spec)) in enumerate(zip(audits, runs, strict=True)):
        progress("runs", done, len(runs))
        folder.append([audit.row(spec, 1 - (1 - settings.confidence) / len(runs))])
    progress("runs", len(runs), len(runs))
    return folder.path


ANY = 0.95
"""Confidence of a bound for any mechanism."""
NOTES = (
    "Every client has all its examples in every batch. The adversary sees each client's messages in every round, has "
    "chosen the canaries, and knows all but their coins.",
    "ε ≥ is for a mechanism whose noise is Gaussian and independent between entries and clients; ε of any ≥ assumes "
    "nothing, and proves less.",
)


@dataclass(frozen=True)
class EpsilonAudit:
    """One run before its training.

    Attributes:
        held: each client's examples, party → inputs and targets.
        planted: their canaries, and `coins`, bool (m,), which of them are in.
    """

    settings: EpsilonSettings
    dataset: Dataset
    state: TrainingState
    scheme: str
    held: Mapping[str, Batch]
    planted: Mapping[str, Canaries]
    coins: Mapping[str, Tensor]

    @classmethod
    def of(cls, settings: EpsilonSettings, dataset: Dataset, scheme: str, spec: str) -> "EpsilonAudit":
        """Deal the data, draw the canaries and their coins."""
        run, (kind, count) = settings.training(scheme), canaries(spec)
        state = begin(run, dataset.network(settings.model, settings.seed))
        shards = partition.split(run.partition, dataset.targets, run.clients, run.seed)
        held, planted, coins = {}, {}, {}
        for index, shard in enumerate(shards):
            party, words = client(index), (settings.seed, scheme, index)
            inputs, targets = dataset.batch(shard)
            held[party] = inputs.to(run.device), targets.to(run.device)
            planted[party] = (
                Dirac.drawn(count, state.model, settings.norm, *words)
                if kind == "dirac"
                else Inputs.drawn(count, dataset, run.device, *words)
            )
            coins[party] = torch.rand(count, generator=generator("coins", spec, *words)) < 0.5
        return cls(settings, dataset, state, scheme, held, planted, coins)

    def row(self, spec: str, level: float) -> Row:
        """Train, listen, guess; what this proves at a level of confidence, beside what is claimed."""
        settings, state, started = self.settings, self.state, time.perf_counter()
        scheme = parse(self.scheme)
        zeroed = settings.adjacency == "zero-out"
        listeners = {party: Listener(scheme, own, zeroed) for party, own in self.planted.items()}
        for number in range(settings.rounds):
            self._round(number, listeners)
        guessed = [listener.guesses() for listener in listeners.values()]
        told = right(guessed, list(self.coins.values()))
        claims = [
            g for g in guarantees(scheme, state.private) if (g.unit, g.adjacency) == ("example", settings.adjacency)
        ]
        delta, total = claims[0].delta if claims else settings.delta, sum(map(len, guessed))
        sent = settings.clients * settings.rounds
        return {
            **{name: getattr(settings, name) for name in ("data", "model", "seed", "device", "rounds", "adjacency")},
            "scheme": self.scheme,
            "seconds": time.perf_counter() - started,
            "bytes_up": state.bytes_up / sent,
            "bytes_down": state.bytes_down / sent,
            "ratio": 4 * Layout.of_model(state.model).size * sent / state.bytes_up,
            "canary": spec,
            "canaries": total,
            "right": told,
            "confidence": settings.confidence,
            "delta": delta,
            "epsilon": gaussian_epsilon(distance_bound(total, told, level), delta),
            "epsilon_any": one_run_bound(total, total, told, ANY, delta),
            "epsilon_claimed": claims[0].epsilon if claims else "",
        }

    def _round(self, number: int, listeners: Mapping[str, Listener]) -> None:
        """One round of training, as the round loop runs it, and what each listener hears of it."""
        state, run, task = self.state, self.settings.training(self.scheme), self.dataset.task
        scheme, parties = parse(self.scheme), tuple(self.held)
        model, how = state.model, Computation(task=task)
        around = Round(number, parties, run.seed, Layout.of_model(model), number, parameters(model))
        zeroed, came = self.settings.adjacency == "zero-out", dict[str, Contribution]()
        for party, (inputs, targets) in self.held.items():
            whole = Descent([torch.arange(len(inputs))], [number], local=False)
            rows = self.planted[party].rows(model, self.coins[party], zeroed)
            step, private = Planted(scheme, rows), state.private[party]
            size = len(inputs) + len(self.coins[party])
            came[party] = contribution(model, inputs, targets, step, party, private, around, whole, how, size)
        carrier = InProcess(Transcript())
        result = run_round(scheme, came, state.public, around, carrier)
        messages = list(carrier.transcript.messages(number))
        for party, listener in listeners.items():
            inputs, targets = self.held[party]
            size = len(inputs) + len(self.coins[party])
            seen = Observation(_sent(messages, party), _sent(messages, "server"), state.public, around, party)
            known = example_gradients(model, inputs, targets, task=task)
            noise = scheme.deviation(around, size)
            listener.hear(scheme.decode(seen), model, size, known, noise)
        state.bytes_up += carrier.transcript.bytes_up()
        state.bytes_down += carrier.transcript.bytes_down()
        state.public, state.private = result.public, dict(result.private)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.grad = result.aggregate[name].to(parameter)
        optimizer.step(state.optimizer, run, number)


def _sent(messages: Sequence[Message], sender: str) -> dict[str, Mapping[str, Tensor]]:
    """What a party sent, phase by phase."""
    return {message.phase: message.tensors for message in messages if message.sender == sender}
