"""What each scheme's step is made of, for the model of `metrics.links`: compute, coding, and bytes on a worker's link.

Workers are those of `wire.collective`: what is a mean is all-reduced around a ring, in which each of n workers sends
2(n − 1)/n times its message; everything else is gathered around it, and each sends n − 1 messages' bytes.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from gradwire import models
from gradwire.bench.stopwatch import Stopwatch
from gradwire.bench.timing import median_seconds
from gradwire.metrics.links import Step
from gradwire.schemes import Layout, Outcome, Round, Scheme, Update, initial_states, parse
from gradwire.schemes.aggregate import mean
from gradwire.training import gradient
from gradwire.wire import EVERYONE, SERVER, ClientHalf, Collective, Message, Send, ServerHalf, check_carrier, client

SHAPE = (3, 32, 32)
CLASSES = 10
BASELINE = "none"
RATES = {"100 Mbps": 1e8, "1 Gbps": 1e9, "10 Gbps": 1e10}
"""Bits a second."""


def measure(
    schemes: tuple[str, ...], model: str = "resnet18", batch: int = 32, workers: int = 2, repeats: int = 3
) -> list[Step]:
    """What a worker's step of each scheme is made of, of a network on images of CIFAR-10's shape.

    Each worker has its part of this machine's cores. Medians; the first step of a scheme, which has no memory yet, is
    not counted.
    """
    chosen = [parse(spec) for spec in schemes]
    for scheme in chosen:
        check_carrier(scheme.spec, scheme.needs, "a collective", Collective.offers)
    network = models.build(model, SHAPE, CLASSES, seed=0)
    with threads(workers):
        source = torch.Generator().manual_seed(0)
        batches = [
            (torch.rand(batch, *SHAPE, generator=source), torch.randint(CLASSES, (batch,), generator=source))
            for _ in range(workers)
        ]
        compute = median_seconds(lambda: gradient(network, *batches[0]), repeats)
        updates: dict[str, Update] = {client(i): gradient(network, *each)[1] for i, each in enumerate(batches)}
        return [_step(scheme, updates, compute, repeats) for scheme in chosen]


@contextmanager
def threads(workers: int) -> Iterator[None]:
    """PyTorch with one worker's part of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def traffic(sends: Sequence[Send], workers: int) -> tuple[float, int]:
    """Bytes on a worker's link each way, and messages one after another, of what it sends in a step."""
    count, messages = 0.0, 0
    for send in sends:
        size = Message(client(0), SERVER, 0, send.phase, send.tensors).size
        count += (2 * (workers - 1) / workers if send.mean else workers - 1) * size
        messages += (2 if send.mean else 1) * (workers - 1)
    return count, messages


def _step(scheme: Scheme, updates: Mapping[str, Update], compute: float, repeats: int) -> Step:
    parties = tuple(updates)
    first, layout = parties[0], Layout.of(updates[parties[0]])
    private, public = initial_states(scheme, layout, parties, 0), scheme.public_state(layout)
    seconds = []
    for index in range(1 + repeats):
        round = Round(index, parties, 0, layout)
        watch = Stopwatch()
        halves = {p: watch.around(p, scheme.client(updates[p], private[p], public, round)) for p in parties}
        outcomes, sends = _play(halves, watch.around(SERVER, scheme.server(public, round)))
        seconds.append(watch.seconds[first] + watch.seconds[SERVER] + _serialising(sends, len(parties)))
        private = {p: dict(outcome.private) for p, outcome in outcomes.items()}
        public = outcomes[first].public
    return Step(scheme.spec, compute, statistics.median(seconds[1:]), *traffic(sends, len(parties)))


def _play(
    halves: Mapping[str, ClientHalf[Outcome]], server: ServerHalf[Outcome]
) -> tuple[dict[str, Outcome], list[Send]]:
    """A round as `Collective` plays it, where sums are not the server's work; and what the first client sent."""
    next(server)
    sends, noted = {party: next(half) for party, half in halves.items()}, []
    outcomes: dict[str, Outcome] = {}
    while not outcomes:
        noted.append(next(iter(sends.values())))
        uploads = {party: send.tensors for party, send in sends.items()}
        reply = server.send({EVERYONE: mean(uploads)} if noted[-1].mean else uploads)
        assert isinstance(reply, Send)  # such are the schemes that collectives carry
        for party, half in halves.items():
            try:
                sends[party] = half.send(reply.tensors)
            except StopIteration as stop:
                outcomes[party] = stop.value
    return outcomes, noted


def _serialising(sends: Sequence[Send], workers: int) -> float:
    """Seconds for a worker's own messages into bytes and everybody's out of them, where they are gathered."""
    started = time.perf_counter()
    for send in sends:
        if not send.mean:
            data = Message(client(0), SERVER, 0, send.phase, send.tensors).encode()
            for _ in range(workers):
                Message.decode(data)
    return time.perf_counter() - started
