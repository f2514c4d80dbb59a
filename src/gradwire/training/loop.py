"""The round loop: every client's gradient, through the scheme and the wire, into one optimiser step."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire import seeds
from gradwire.data import Dataset, partition
from gradwire.schemes import Layout, Round, parse
from gradwire.training.batches import batch_indices
from gradwire.training.buffers import average, running_statistics, share
from gradwire.training.gradient import gradient, in_mode
from gradwire.training.settings import TrainSettings
from gradwire.training.state import TrainingState
from gradwire.wire import InProcess, Transcript, client


def begin(settings: TrainSettings, model: nn.Module) -> TrainingState:
    """The state before the first round. `model` is trained in place."""
    scheme = parse(settings.scheme)
    layout = Layout.of_model(model)
    model.to(settings.device)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        trainable, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    parties = [client(i) for i in range(settings.clients)]
    private = {p: scheme.private_state(layout, seeds.number("private", settings.seed, p)) for p in parties}
    return TrainingState(model, optimizer, scheme.public_state(layout), private)


def train(
    state: TrainingState,
    settings: TrainSettings,
    dataset: Dataset,
    transcript: Transcript | None = None,
    after_round: Callable[[TrainingState, float], None] | None = None,
) -> None:
    """Run `state` on to `settings.rounds`.

    Args:
        state: changed in place, round by round.
        dataset: the training split, dealt out to the clients as `settings.partition` says.
        transcript: where messages are recorded; by default only the last round's are kept.
        after_round: called with the state and the round's mean training loss.
    """
    shards = partition.split(settings.partition, dataset.labels, settings.clients, settings.seed)
    transport = InProcess(Transcript(keep=1) if transcript is None else transcript)
    while state.round < settings.rounds:
        started = time.perf_counter()
        loss = play_round(state, settings, dataset, shards, transport)
        state.seconds += time.perf_counter() - started
        if after_round is not None:
            after_round(state, loss)


def play_round(
    state: TrainingState, settings: TrainSettings, dataset: Dataset, shards: Sequence[Tensor], transport: InProcess
) -> float:
    """One round; the mean of the clients' losses."""
    scheme, index, parties = parse(settings.scheme), state.round, tuple(state.private)
    context = Round(index, parties, settings.seed, Layout.of_model(state.model))
    carried = running_statistics(state.model)
    halves, statistics, losses = {}, {}, []
    for party, shard in zip(parties, shards, strict=True):
        chosen = batch_indices(shard, party, index, settings.batch_size, settings.seed)
        images, labels = (tensor.to(settings.device) for tensor in dataset.batch(chosen))
        loss, update, buffers = gradient(state.model, images, labels)
        losses.append(loss)
        statistics[party] = share({name: buffers[name].cpu() for name in carried})
        update = {name: g.cpu() for name, g in update.items()}
        halves[party] = scheme.client(update, state.private[party], state.public, context)
    before = (transport.transcript.bytes_up(), transport.transcript.bytes_down())
    outcomes, served = transport.exchange(halves, scheme.server(state.public, context), index)
    averaged = transport.exchange(statistics, average(), index)[1] if carried else {}
    state.bytes_up += transport.transcript.bytes_up() - before[0]
    state.bytes_down += transport.transcript.bytes_down() - before[1]
    state.public = served.public
    state.private = {party: outcomes[party].private for party in parties}
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = served.aggregate[name].to(parameter.device)
    state.optimizer.step()
    with torch.no_grad():
        for name, value in averaged.items():
            state.model.get_buffer(name).copy_(value)
    state.round += 1
    return sum(losses) / len(losses)


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
