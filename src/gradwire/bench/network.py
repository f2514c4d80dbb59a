"""What each scheme's step is made of, for the model of `metrics.links`: compute, coding, and bytes on a worker's link.

Workers are those of `wire.collective`. A mean is all-reduced around a ring, in which each of n workers sends
2(n − 1)/n times its message; everything else is gathered around it, and each sends n − 1 messages' bytes.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from gradwire import models
from gradwire.bench.link import LinkRefused
from gradwire.bench.shaped import CLASSES, SHAPE, WORKERS, NetworkSettings, examples, part_of_cores, shaped
from gradwire.bench.timing import Stopwatch, median_seconds
from gradwire.metrics.links import Step
from gradwire.progress import Progress, silent
from gradwire.report import NETWORK_COLUMNS
from gradwire.report.rows import BASELINE
from gradwire.runs import Row, RunFolder
from gradwire.schemes import Layout, Outcome, Round, Scheme, Update, initial_states, parse
from gradwire.schemes.halves import mean
from gradwire.training import gradient
from gradwire.wire import (
    EVERYONE,
    SERVER,
    ClientHalf,
    Collective,
    Deal,
    Message,
    Need,
    ParameterServer,
    Send,
    ServerHalf,
    check_carrier,
    client,
)

RATES = (1e8, 1e9, 1e10)
"""Bits a second."""
LINKS = (
    f"Real links: {WORKERS} workers of DDP in two network namespaces of one machine, joined by a veth pair that tc "
    "limits (tbf). There, none is DDP without a hook, which sends while it still computes. Medians of "
    "{steps} steps; bytes in results.csv are those that the device sent, all headers included. Schemes that need a "
    "server are modelled alone: DDP has none."
)


def run_network(settings: NetworkSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Measures everything, and returns the folder that it wrote: results.csv, config.json."""
    schemes = (BASELINE, *(spec for spec in settings.schemes if spec != BASELINE))
    steps = measure(schemes, settings.model, settings.batch, settings.workers, seed=settings.seed)
    run = RunFolder.create(out, "bench-network", NETWORK_COLUMNS)
    for step in steps:
        run.append(_row(settings, step, rate, step.seconds(rate, settings.latency)) for rate in RATES)
    note = "No real links were measured: --no-real."
    if settings.real:
        try:
            made_of = {step.scheme: step for step in steps if not _starred(parse(step.scheme))}
            found = shaped(replace(settings, schemes=tuple(made_of)), RATES, progress)
            run.append(_row(settings, made_of[m.scheme], m.rate, m.seconds, m.bytes) for m in found)
            note = LINKS.format(steps=settings.steps)
        except LinkRefused as error:
            note = f"No real links were measured: {error}."
    run.configure("bench network", asdict(settings), [note])
    return run.path


def _row(settings: NetworkSettings, step: Step, rate: float, seconds: float, sent: float | None = None) -> Row:
    """A step's time at a rate: modelled, or measured with `sent` bytes."""
    row = {name: getattr(settings, name) for name in ("model", "seed", "batch", "latency")}
    row |= {"data": "random", "device": "cpu", **asdict(step), "rate": rate, "seconds": seconds}
    if sent is None:
        return row | {"source": "modelled", "workers": settings.workers}
    return row | {"source": "measured", "workers": WORKERS, "bytes": sent}


def measure(
    schemes: tuple[str, ...],
    model: str = "resnet18",
    batch: int = 32,
    workers: int = 2,
    repeats: int = 3,
    seed: int = 0,
) -> list[Step]:
    """What a worker's step of each scheme is made of, for a network on images of CIFAR-10's shape.

    Each worker has its part of this machine's cores. Figures are medians without a scheme's first step, when it has no
    memory yet.
    """
    chosen = [parse(spec) for spec in schemes]
    for scheme in chosen:
        name, carrier = ("a server", ParameterServer) if _starred(scheme) else ("a collective", Collective)
        check_carrier(scheme.spec, scheme.needs, name, carrier.offers)
    network, source = models.build(model, SHAPE, CLASSES, seed=seed), torch.Generator().manual_seed(seed)
    with part_of_cores(workers):
        batches = [examples(batch, source) for _ in range(workers)]
        compute = median_seconds(lambda: gradient(network, *batches[0]), repeats)
        updates: dict[str, Update] = {client(i): gradient(network, *each)[1] for i, each in enumerate(batches)}
        return [_step(scheme, updates, compute, repeats) for scheme in chosen]


def traffic(sends: Sequence[Send], workers: int) -> tuple[float, int]:
    """Bytes on a worker's link each way, and messages one after another, of what it sends in a step."""
    count, messages = 0.0, 0
    for send in sends:
        count += (2 * (workers - 1) / workers if send.mean else workers - 1) * _message(send).size
        messages += (2 if send.mean else 1) * (workers - 1)
    return count, messages


def traffic_of_star(sends: Sequence[Send], replies: Sequence[Message], workers: int) -> tuple[float, int]:
    """The same where a server has a link as fast as a worker's, which all their messages pass, one way or the other."""
    up, down = sum(_message(send).size for send in sends), sum(reply.size for reply in replies)
    return workers * max(up, down), 2 * len(sends)


def _starred(scheme: Scheme) -> bool:
    return Need.SERVER in scheme.needs


def _message(send: Send) -> Message:
    return Message(client(0), SERVER, 0, send.phase, send.tensors)


def _step(scheme: Scheme, updates: Mapping[str, Update], compute: float, repeats: int) -> Step:
    parties = tuple(updates)
    first, layout = parties[0], Layout.of(updates[parties[0]])
    private, public, seconds = initial_states(scheme, layout, parties, 0), scheme.public_state(layout), []
    for index in range(1 + repeats):
        round, watch = Round(index, parties, 0, layout), Stopwatch()
        halves = {p: watch.around(p, scheme.client(updates[p], private[p], public, round)) for p in parties}
        served = watch.around(SERVER, scheme.server(public, round))
        outcomes, sends, replies = _run_round(halves, served, _starred(scheme))
        seconds.append(watch.seconds[first] + watch.seconds[SERVER] + _serialising(sends, len(parties)))
        private = {p: dict(outcome.private) for p, outcome in outcomes.items()}
        public = outcomes[first].public
    n = len(parties)
    sent = traffic_of_star(sends, replies, n) if _starred(scheme) else traffic(sends, n)
    return Step(scheme.spec, compute, statistics.median(seconds[1:]), *sent)


def _run_round(
    halves: Mapping[str, ClientHalf[Outcome]], server: ServerHalf[Outcome], starred: bool
) -> tuple[dict[str, Outcome], list[Send], list[Message]]:
    """A round as `Collective` runs it, where sums are not the server's work, or as a server does.

    Returns:
        also what the first client sent and was told.
    """
    next(server)
    sends, noted, told = {party: next(half) for party, half in halves.items()}, list[Send](), list[Message]()
    outcomes: dict[str, Outcome] = {}
    while not outcomes:
        noted.append(next(iter(sends.values())))
        uploads = {party: send.tensors for party, send in sends.items()}
        reply = server.send({EVERYONE: mean(uploads)} if noted[-1].mean and not starred else uploads)
        assert reply is not None
        hands = reply.tensors if isinstance(reply, Deal) else dict.fromkeys(halves, reply.tensors)
        told.append(Message(SERVER, client(0), 0, reply.phase, hands[client(0)]))
        for party, half in halves.items():
            try:
                sends[party] = half.send(hands[party])
            except StopIteration as stop:
                outcomes[party] = stop.value
    return outcomes, noted, told


def _serialising(sends: Sequence[Send], workers: int) -> float:
    """Seconds for a worker's own messages into bytes and everybody's out of them, where they are gathered."""
    started = time.perf_counter()
    for data in (_message(send).encode() for send in sends if not send.mean):
        for _ in range(workers):
            Message.decode(data)
    return time.perf_counter() - started
