"""The round loop: what every client of a round comes with, through the scheme and the wire, into one optimiser step."""

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, nan

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError, TooFewError
from gradwire.models.mode import forward, in_mode
from gradwire.schemes import Layout, Round, Update, initial_states, parameters, parse
from gradwire.training import optimizer
from gradwire.training.batches import sampled
from gradwire.training.buffers import Buffers, average, running_statistics, share
from gradwire.training.cohort import CohortPlan, contributions, way
from gradwire.training.dropouts import exposed
from gradwire.training.settings import TrainSettings
from gradwire.training.state import TrainingState
from gradwire.training.weights import notes, scaled, told, weight
from gradwire.wire import InProcess, Transcript, Transport, client


def begin(settings: TrainSettings, model: nn.Module, transport: Transport | None = None) -> TrainingState:
    """The state before the first round. `model` is trained in place, unless the scheme trains a network of its own.

    Args:
        transport: by which clients of other processes are introduced to those of this one, whose private states alone
            it then holds. By default all clients live here.
    """
    transport = transport or InProcess()
    scheme = parse(settings.scheme)
    scheme.check_local(settings.local, settings.average == "weighted")
    model = scheme.adapt(model, settings.seed).to(settings.device)
    layout = Layout.of_model(model)
    chosen = optimizer.build(settings, [p for p in model.parameters() if p.requires_grad])
    parties = transport.local(tuple(client(i) for i in range(settings.clients)))
    private = initial_states(scheme, layout, parties, settings.seed, transport.share)
    return TrainingState(model, chosen, scheme.public_state(layout), private)


def train(
    state: TrainingState,
    settings: TrainSettings,
    dataset: Dataset,
    transport: Transport | None = None,
    after_round: Callable[[TrainingState, float], None] | None = None,
) -> None:
    """Run `state` on to `settings.rounds`.

    Args:
        state: changed in place, round by round.
        dataset: the training split, dealt out to the clients as `settings.partition` says.
        transport: between the clients; by default they all live in this process, and only the last round's messages
            are kept. A process trains the clients that live in it, and has their part of the private state.
        after_round: called with the state and the round's mean training loss.
    """
    shards = partition.split(settings.partition, dataset.labels, settings.clients, settings.seed)
    transport = transport or InProcess(Transcript(keep=1))
    here = len(transport.local(tuple(client(i) for i in sampled(settings, state.round))))
    chosen = way(settings, parse(settings.scheme), state.model, dataset, shards, here)
    state.notes = chosen.notes + notes(settings, parse(settings.scheme), Layout.of_model(state.model))
    while state.round < settings.rounds:
        started = time.perf_counter()
        loss = play_round(state, settings, dataset, shards, transport, chosen)
        state.seconds += time.perf_counter() - started
        if after_round is not None:
            after_round(state, loss)


def play_round(
    state: TrainingState,
    settings: TrainSettings,
    dataset: Dataset,
    shards: Sequence[Tensor],
    transport: Transport,
    chosen: CohortPlan,
) -> float:
    """One round; the mean of the clients' losses (of those that are finite)."""
    members = {client(i): i for i in sampled(settings, state.round)}
    epoch = int(settings.passes(state.round, len(dataset)))
    layout, start = Layout.of_model(state.model), parameters(state.model)
    round = Round(state.round, tuple(members), settings.seed, layout, epoch, start)
    own = {party: shards[members[party]] for party in transport.local(round.clients)}
    scheme, carried = parse(settings.scheme), running_statistics(state.model)
    came = contributions(state.model, settings, scheme, dataset, own, state.private, round, chosen)
    reported = {}
    for party, brought in came.items():
        finite = all(map(_finite, brought.update.values()))
        reported[party] = {"loss": torch.tensor(brought.loss, dtype=torch.float64), "finite": torch.tensor(finite)}
    reports = transport.share(reported)
    broken = [party for party, report in reports.items() if not report["finite"]]
    if broken and settings.on_nan == "stop":
        _stop(broken, {party: brought.update for party, brought in came.items()}, round)
    if broken:
        state.skipped += 1
    else:
        state.private |= {party: brought.private for party, brought in came.items()}
        statistics = {p: {name: each.buffers[name].cpu() for name in carried} for p, each in came.items()}
        weights: dict[str, float] = {}
        if settings.average == "weighted":
            weights = {party: weight(len(shard), settings.clients, len(dataset)) for party, shard in own.items()}
        _exchange(state, settings, {p: each.update for p, each in came.items()}, weights, statistics, round, transport)
    state.round += 1
    losses = [loss for report in reports.values() if isfinite(loss := float(report["loss"]))]
    return sum(losses) / len(losses) if losses else nan


def _finite(tensor: Tensor) -> bool:
    """Whether every entry is. A finite sum says so in one quick pass; finite entries' sum may still overflow."""
    return isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _exchange(
    state: TrainingState,
    settings: TrainSettings,
    updates: Mapping[str, Update],
    weights: Mapping[str, float],
    statistics: Mapping[str, Buffers],
    round: Round,
    transport: Transport,
) -> None:
    """Updates through the scheme into one optimiser step, and the buffers' means into the buffers.

    Args:
        weights: of the updates; empty where all count alike.
    """
    scheme = parse(settings.scheme)
    updates = {party: scaled(update, weights[party]) if weights else update for party, update in updates.items()}
    up, down = transport.transcript.bytes_up, transport.transcript.bytes_down
    before = up(round=round.index), down(round=round.index)
    halves = {party: scheme.client(g, state.private[party], state.public, round) for party, g in updates.items()}
    halves = {party: exposed(half, settings, round, party) for party, half in halves.items()}
    try:
        outcomes, served = transport.exchange(halves, scheme.server(state.public, round), round.index)
    except TooFewError:
        if settings.on_few == "stop":
            raise
        state.short += 1
        state.bytes_up += up(round=round.index) - before[0]
        state.bytes_down += down(round=round.index) - before[1]
        return
    state.dropped += len(halves) - len(outcomes)
    first = next(iter(outcomes))
    total = 1.0
    if weights and told(scheme, round, settings.clients):
        shares = {party: share({"weight": torch.tensor([weights[party]])}, "weights") for party in outcomes}
        total = float(transport.exchange(shares, average("weights"), round.index)[0][first]["weight"])
    averaged: Buffers = {}
    if statistics[first]:
        shares = {party: share(statistics[party]) for party in outcomes}
        averaged = transport.exchange(shares, average(), round.index)[0][first]
    state.bytes_up += up(round=round.index) - before[0]
    state.bytes_down += down(round=round.index) - before[1]
    # A server of its own may know more than a client: what each of them sent it alone.
    state.public = outcomes[first].public if served is None else served.public
    if served is not None:
        state.notes += tuple(f"round {round.index}: a client was left out: {why}" for why in served.refused.values())
    state.private |= {party: outcome.private for party, outcome in outcomes.items()}
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = outcomes[first].aggregate[name].to(parameter) / total
    optimizer.step(state.optimizer, settings, round.index)
    with torch.no_grad():
        for name, value in averaged.items():
            state.model.get_buffer(name).copy_(value)


def _stop(broken: Sequence[str], updates: Mapping[str, Update], round: Round) -> None:
    """Refuse a gradient that is not finite, naming the parameter where it is one of this process's clients."""
    for party in broken:
        if party in updates:
            round.layout.check(updates[party])
    raise GradwireError(f"round {round.index}: the gradient of {broken[0]} is not finite")


def evaluate(model: nn.Module, dataset: Dataset, device: str = "cpu", batch: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a data set, in evaluation mode."""
    loss, right = 0.0, 0
    with in_mode(model, "eval"), torch.no_grad():
        for chosen in torch.arange(len(dataset)).split(batch):
            images, labels = (tensor.to(device) for tensor in dataset.batch(chosen))
            logits = forward(model, images)
            loss += float(cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    return loss / len(dataset), right / len(dataset)
