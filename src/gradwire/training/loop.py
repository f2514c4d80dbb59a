"""The round loop: every client's gradient, through the scheme and the wire, into one optimiser step."""

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire import seeds
from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, Update, parse
from gradwire.training import optimizer
from gradwire.training.batches import batch_indices
from gradwire.training.gradient import gradient, in_mode
from gradwire.training.halves import client_half, server_half
from gradwire.training.settings import TrainSettings
from gradwire.training.state import TrainingState
from gradwire.wire import InProcess, Transcript, Transport, client


def begin(settings: TrainSettings, model: nn.Module) -> TrainingState:
    """The state before the first round. `model` is trained in place."""
    scheme = parse(settings.scheme)
    layout = Layout.of_model(model)
    model.to(settings.device)
    chosen = optimizer.build(settings, [p for p in model.parameters() if p.requires_grad])
    parties = [client(i) for i in range(settings.clients)]
    private = {p: scheme.private_state(layout, seeds.number("private", settings.seed, p)) for p in parties}
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
    while state.round < settings.rounds:
        started = time.perf_counter()
        loss = play_round(state, settings, dataset, shards, transport)
        state.seconds += time.perf_counter() - started
        if after_round is not None:
            after_round(state, loss)


def play_round(
    state: TrainingState, settings: TrainSettings, dataset: Dataset, shards: Sequence[Tensor], transport: Transport
) -> float:
    """One round; the mean of the clients' losses (of those that are finite)."""
    scheme, index = parse(settings.scheme), state.round
    parties = tuple(client(i) for i in range(settings.clients))
    epoch = index * settings.clients * settings.batch_size // len(dataset)
    context = Round(index, parties, settings.seed, Layout.of_model(state.model), epoch)
    local = transport.local(parties)
    carried = _running_statistics(state.model)
    updates, statistics, told = {}, {}, {}
    for party in local:
        chosen = batch_indices(shards[parties.index(party)], party, index, settings.batch_size, settings.seed)
        images, labels = (tensor.to(settings.device) for tensor in dataset.batch(chosen))
        loss, update, buffers = gradient(state.model, images, labels)
        updates[party] = {name: g.cpu() for name, g in update.items()}
        statistics[party] = {name: buffers[name].cpu() for name in carried}
        fine = all(bool(torch.isfinite(g).all()) for g in updates[party].values())
        told[party] = {"loss": torch.tensor(loss, dtype=torch.float64), "finite": torch.tensor(fine)}
    reports = transport.share(told)
    losses = [loss for report in reports.values() if isfinite(loss := float(report["loss"]))]
    state.round += 1
    broken = [party for party, report in reports.items() if not report["finite"]]
    if broken and settings.on_nan == "stop":
        _stop(broken, updates, context)
    if broken:
        state.skipped += 1
    else:
        halves = {
            party: client_half(scheme, updates[party], statistics[party], state.private[party], state.public, context)
            for party in local
        }
        up, down = transport.transcript.bytes_up, transport.transcript.bytes_down
        before = up(round=index), down(round=index)
        outcomes, _ = transport.exchange(halves, server_half(scheme, state.public, context, bool(carried)), index)
        state.bytes_up += up(round=index) - before[0]
        state.bytes_down += down(round=index) - before[1]
        state.private = {party: outcome.private for party, (outcome, _) in outcomes.items()}
        outcome, averaged = outcomes[local[0]]
        state.public = outcome.public
        _apply(state, settings, outcome.aggregate, averaged, index)
    return sum(losses) / len(losses) if losses else float("nan")


def _apply(
    state: TrainingState, settings: TrainSettings, aggregate: Update, statistics: Mapping[str, Tensor], round: int
) -> None:
    """One optimiser step with the aggregated update, and the averaged statistics into their buffers."""
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = aggregate[name].to(parameter.device)
    optimizer.step(state.optimizer, settings, round)
    with torch.no_grad():
        for name, averaged in statistics.items():
            state.model.get_buffer(name).copy_(averaged)


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
            logits = model(images)
            loss += float(cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    return loss / len(dataset), right / len(dataset)


def _running_statistics(model: nn.Module) -> list[str]:
    """Names of the floating-point buffers that a state dict carries: what batch norm learns without a gradient."""
    kept = model.state_dict().keys()
    return [name for name, buffer in model.named_buffers() if name in kept and buffer.is_floating_point()]
