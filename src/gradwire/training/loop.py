"""The round loop: what every client of a round comes with, through the scheme and the wire, into one optimiser step."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite, nan

import torch
from torch import Tensor, nn

from gradwire.data import Dataset, partition
from gradwire.errors import GradwireError, TooFewError
from gradwire.models.mode import in_mode
from gradwire.rounds import run_round
from gradwire.rounds.recording import RecordedRound, Recorder
from gradwire.schemes import (
    Contribution,
    Layout,
    Round,
    Scheme,
    Update,
    Weights,
    adapted,
    initial_states,
    parameters,
    parse,
)
from gradwire.secure.identity_files import Identities
from gradwire.seeds import generator
from gradwire.tasks import Task
from gradwire.training import optimizer
from gradwire.training.batches import descents, sampled, step_sizes
from gradwire.training.client import Computation, carried_buffers
from gradwire.training.cohort import CohortPlan, cohort_plan, contributions
from gradwire.training.malice import Malice
from gradwire.training.robust import check_rule, robust_mean, singles
from gradwire.training.settings import TrainSettings
from gradwire.training.state import TrainingState
from gradwire.wire import ClientHalf, InProcess, Need, Transcript, Transport, check_carrier, client, drop_out
from gradwire.wire.protocol import T
from gradwire.wire.view import LocalWork


def offers(settings: TrainSettings, carrier: Transport) -> frozenset[Need]:
    """What a run with these settings offers a scheme over this carrier."""
    lacks = {Need.SINGLE_GRADIENT} if settings.local else {Need.LOCAL_UPDATE}
    if settings.average == "weighted":
        lacks.add(Need.EQUAL_WEIGHTS)
    if settings.drop_clients:
        lacks.add(Need.WHOLE)
    return frozenset(carrier.offers - lacks)


def check(settings: TrainSettings, carrier: Transport) -> Scheme:
    """The scheme of a run, if the run offers what it needs.

    Raises:
        GradwireError: it does not; or too few rounds for the scheme to do what it is there for.
    """
    scheme = parse(settings.scheme)
    check_carrier(scheme.spec, scheme.needs, "this run", offers(settings, carrier))
    check_rule(settings.rule, settings.cohort, settings.average, scheme)
    if settings.rule != "mean" and not isinstance(carrier, InProcess):
        raise GradwireError(f"rule is {settings.rule}; only a server in this process follows one")
    return scheme


def begin(
    settings: TrainSettings, model: nn.Module, transport: Transport | None = None, identities: Identities | None = None
) -> TrainingState:
    """The state before the first round. `model` is trained in place, unless the scheme trains a network of its own.

    Args:
        transport: tells clients of other processes the public keys of those of this one, whose private states alone
            it then holds. By default all clients live here.
        identities: the signing key of this process's client, and the list of who may join; by default fresh keys, which
            are believed as they come.
    """
    transport = transport or InProcess()
    scheme = check(settings, transport)
    model = adapted(scheme, model, settings.seed).to(settings.device)
    layout = Layout.of_model(model)
    weighting(settings, scheme, model)
    chosen = optimizer.build(settings, [p for p in model.parameters() if p.requires_grad])
    parties = transport.local(tuple(client(i) for i in range(settings.clients)))
    private = initial_states(scheme, layout, parties, settings.seed, transport.share, identities)
    return TrainingState(model, chosen, scheme.public_state(layout), private)


def train(
    state: TrainingState,
    settings: TrainSettings,
    dataset: Dataset,
    transport: Transport | None = None,
    after_round: Callable[[TrainingState, float], None] | None = None,
    recorder: Recorder | None = None,
    shards: Sequence[Tensor] | None = None,
) -> None:
    """Run `state` on to `settings.rounds`.

    Args:
        state: changed in place, round by round.
        dataset: the training split, dealt out to the clients as `settings.partition` says.
        transport: between the clients; by default they all live in this process, and only the last round's messages
            are kept. A process trains the clients that live in it, and has their part of the private state.
        after_round: called with the state and the round's mean training loss.
        recorder: keeps the latest rounds for an audit; the transport must keep each round's messages.
        shards: positions of each client's examples, in place of those that `settings.partition` deals.
    """
    if shards is None:
        shards = partition.split(settings.partition, dataset.targets, settings.clients, settings.seed)
    transport = transport or InProcess(Transcript(keep=1))
    if settings.malicious:
        dataset = Malice.parse(settings.malice).poisoned(dataset, torch.cat(list(shards[: settings.malicious])))
    plan = planned(state, settings, dataset, shards, transport)
    state.notes = plan.notes + notes(settings, parse(settings.scheme), state.model)
    while state.round < settings.rounds:
        started = time.perf_counter()
        loss = train_round(state, settings, dataset, shards, transport, plan, recorder)
        state.seconds += time.perf_counter() - started
        if after_round is not None:
            after_round(state, loss)


def planned(
    state: TrainingState, settings: TrainSettings, dataset: Dataset, shards: Sequence[Tensor], transport: Transport
) -> CohortPlan:
    """How this process's clients train.

    Raises:
        GradwireError: a batch of one example for a network with batch norm, naming the client; or Poisson batches.
    """
    here = len(transport.local(tuple(client(i) for i in sampled(settings, state.round))))
    steps = [step_sizes(settings, len(shard)) for shard in shards]
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in state.model.modules()):
        if settings.poisson:
            raise GradwireError("a Poisson batch may hold one example or none, which batch norm cannot train on")
        for number, sizes in enumerate(steps):
            if min(sizes) == 1:
                wrong = f"{client(number)} has {len(shards[number])} examples, and a batch of one among its steps"
                raise GradwireError(
                    f"{wrong}, which batch norm cannot train on; set drop_last, or a least partition size"
                )
    how, scheme = computation(settings, dataset.task), parse(settings.scheme)
    plan = cohort_plan(
        scheme, state.model, dataset.task, steps, here, settings.local and not settings.poisson, how, settings.device
    )
    if not (settings.poisson and settings.local):
        return plan
    # Batches of any size, or none, are no stack.
    return replace(plan, notes=("clients train one after another: Poisson batches differ in size", *plan.notes))


def computation(settings: TrainSettings, task: Task) -> Computation:
    """How the clients of a run compute. Gradients that are not finite are told to all before anything is sent."""
    return Computation(task=task, precision=settings.precision, finite=False)


def train_round(
    state: TrainingState,
    settings: TrainSettings,
    dataset: Dataset,
    shards: Sequence[Tensor],
    transport: Transport,
    plan: CohortPlan,
    recorder: Recorder | None = None,
) -> float:
    """One round; the mean of the clients' losses (of those that are finite)."""
    members = {client(i): i for i in sampled(settings, state.round)}
    scheme = parse(settings.scheme)
    round = Round(
        state.round,
        tuple(members),
        settings.seed,
        Layout.of_model(state.model),
        int(settings.passes(state.round, len(dataset))),
        parameters(state.model),
        weighting(settings, scheme, state.model),
    )
    own = {party: shards[members[party]] for party in transport.local(round.clients)}
    public = state.public
    if recorder is not None:
        recorder.begin(_facts(settings, scheme, round, next(iter(own)), dataset), state.model)
    work = {party: descents(settings, party, len(shard), state.round) for party, shard in own.items()}
    how, device = computation(settings, dataset.task), settings.device
    came = contributions(state.model, dataset, own, work, scheme, state.private, round, plan, how, device)
    weights = {party: len(shard) * settings.clients / len(dataset) for party, shard in own.items()}
    came = {party: replace(brought, weight=weights[party]) for party, brought in came.items()}
    for party in (party for party in came if members[party] < settings.malicious):
        brought = came[party]
        bad = Malice.parse(settings.malice).sent(brought.update, brought.private, public, scheme, round, party)
        came[party] = replace(brought, update=bad)
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
        _exchange(state, settings, scheme, came, round, transport)
        if recorder is not None:
            recorder.add(round.index, tuple(transport.transcript.messages(round.index)), public)
    state.round += 1
    losses = [loss for report in reports.values() if isfinite(loss := float(report["loss"]))]
    return sum(losses) / len(losses) if losses else nan


def weighting(settings: TrainSettings, scheme: Scheme, model: nn.Module) -> Weights:
    """How the clients of a round count: see `schemes.Round`.

    Where the server sees sums only, telling a weight would undo that. The mean of w·update is then the weighted mean
    in expectation over samples, and exactly where all clients take part.

    Raises:
        GradwireError: buffers that could not be weighted as updates are.
    """
    if settings.average == "plain":
        return "equal"
    partial_rounds = settings.cohort < settings.clients or settings.drop_clients > 0
    if scheme.sums_only:
        if partial_rounds and carried_buffers(model):
            raise GradwireError(
                f"{scheme.spec} hides how many examples clients have, so that the running statistics of some of them "
                "cannot be weighted; set average to plain, or take a network without batch norm"
            )
        return "scaled"
    return "told" if partial_rounds else "scaled"


def notes(settings: TrainSettings, scheme: Scheme, model: nn.Module) -> tuple[str, ...]:
    """What a report has to say of sums: what is sent beside them in the clear, and weights that are not told."""
    if not scheme.sums_only:
        return ()
    beside = "loss and batch norm's running statistics are" if carried_buffers(model) else "loss is"
    told = (f"{scheme.spec}: each client's {beside} told beside the sum, in the clear",)
    if settings.average == "plain" or settings.cohort == settings.clients:
        return told
    return (
        *told,
        f"{scheme.name}: the server sees sums only and is not told how many examples a round's clients have; updates "
        "are weighted by each client's share of all examples, the weighted mean in expectation over samples",
    )


def _facts(settings: TrainSettings, scheme: Scheme, round: Round, victim: str, dataset: Dataset) -> RecordedRound:
    """What is public about a round, for its recording."""
    carried = scheme.feeds_back and round.index > 0
    return RecordedRound(
        scheme.spec,
        round.seed,
        round.index,
        round.clients,
        victim,
        round.epoch,
        local_work(settings) if settings.local else None,
        round.weights,
        carried,
        domain=dataset.task.domain.fingerprint,
    )


def local_work(settings: TrainSettings) -> LocalWork:
    """The local work of a client, as an adversary is told of it."""
    return LocalWork(settings.local_steps or 1, settings.batch_size, settings.lr, settings.weight_decay)


def _finite(tensor: Tensor) -> bool:
    """Whether every entry is. A finite sum says so in one quick pass; finite entries' sum may still overflow."""
    return isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _exchange(
    state: TrainingState,
    settings: TrainSettings,
    scheme: Scheme,
    came: Mapping[str, Contribution],
    round: Round,
    transport: Transport,
) -> None:
    """Contributions through the scheme into one optimiser step, and the buffers' means into the buffers."""
    up, down = transport.transcript.bytes_up, transport.transcript.bytes_down
    before = up(round=round.index), down(round=round.index)
    state.private |= {party: brought.private for party, brought in came.items()}
    public, result = state.public, None
    try:
        result = run_round(scheme, came, state.public, round, transport, partial(exposed, settings, round))
    except TooFewError:
        if settings.on_few == "stop":
            raise
        state.short += 1
    state.bytes_up += up(round=round.index) - before[0]
    state.bytes_down += down(round=round.index) - before[1]
    if result is None:
        return
    aggregate = result.aggregate
    if settings.rule != "mean":
        messages = list(transport.transcript.messages(round.index))
        seen = singles(scheme, messages, round, public, settings.rule)
        aggregate = round.layout.restored(robust_mean(settings.rule, seen, round.layout))
    state.dropped += len(result.left_out) - len(result.refused)
    state.public = result.public
    state.notes += tuple(f"round {round.index}: a client was left out: {why}" for why in result.refused.values())
    state.private |= result.private
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = aggregate[name].to(parameter)
    optimizer.step(state.optimizer, settings, round.index)
    with torch.no_grad():
        for name, value in result.buffers.items():
            state.model.get_buffer(name).copy_(value)


def exposed(settings: TrainSettings, round: Round, party: str, half: ClientHalf[T]) -> ClientHalf[T]:
    """The half of a client that may vanish before any of its messages, by a schedule that the seed decides."""
    if not settings.drop_clients:
        return half
    chances = generator("dropouts", settings.seed, round.index, party)
    return drop_out(half, lambda _: bool(torch.rand((), generator=chances) < settings.drop_clients))


def _stop(broken: Sequence[str], updates: Mapping[str, Update], round: Round) -> None:
    """Refuse a gradient that is not finite, naming the parameter where it is one of this process's clients."""
    for party in broken:
        if party in updates:
            round.layout.check(updates[party])
    raise GradwireError(f"round {round.index}: the gradient of {broken[0]} is not finite")


def evaluate(model: nn.Module, dataset: Dataset, device: str = "cpu", batch: int | None = None) -> dict[str, float]:
    """The mean loss of a data set's examples in evaluation mode, as `loss`, and the task's measures by name.

    Args:
        batch: examples at once; by default 1,000, but 50 of those with scores of a whole vocabulary at each position.
    """
    task, totals = dataset.task, {"loss": 0.0}
    batch = batch or (50 if task.loss.from_inputs else 1000)
    with in_mode(model, "eval"), torch.no_grad():
        for chosen in torch.arange(len(dataset)).split(batch):
            inputs, targets = (tensor.to(device) for tensor in dataset.batch(chosen))
            output = task.output(model, inputs, targets=targets)
            totals["loss"] += float(task.loss(output, targets)) * len(chosen)
            for name, each in task.loss.measures(output, targets).items():
                totals[name] = totals.get(name, 0.0) + float(each.sum())
    return {name: total / len(dataset) for name, total in totals.items()}
