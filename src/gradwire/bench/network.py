"""A step's time as a function of the link's speed: compute and bytes measured, the network modelled.

    time = compute + coding + bytes · 8 / rate + messages · latency

Compute is one client's gradient, coding one client's round through the scheme in this process (both halves, with
serialisation), bytes what it sends and receives. Nothing overlaps and nobody else is on the link.
"""

import time
from dataclasses import dataclass
from math import inf

import torch

from gradwire import models
from gradwire.bench.timing import median_seconds
from gradwire.schemes import Layout, Round, Update, parse
from gradwire.training import gradient
from gradwire.wire import InProcess, Transcript, client

RATES = {"100 Mbps": 1e8, "1 Gbps": 1e9, "10 Gbps": 1e10}
"""Bits a second."""


@dataclass(frozen=True)
class Step:
    """What one client's step costs.

    Attributes:
        compute: seconds for the gradient; `coding`, for the scheme and for serialising.
        bytes: sent and received, in `messages` messages.
    """

    scheme: str
    compute: float
    coding: float
    bytes: int
    messages: int

    def seconds(self, rate: float, latency: float) -> float:
        """The step's time on a link of `rate` bits a second on which a message takes `latency` seconds more."""
        return self.compute + self.coding + 8 * self.bytes / rate + self.messages * latency

    def beats(self, plain: "Step", latency: float) -> float:
        """The rate, in bits a second, below which this step is faster than `plain`: 0 for never, inf for always."""
        saved = 8 * (plain.bytes - self.bytes)
        costs = self.coding - plain.coding + (self.messages - plain.messages) * latency
        if saved <= 0:
            return 0.0 if costs >= 0 else inf
        return inf if costs <= 0 else saved / costs


def measure(schemes: tuple[str, ...], model: str = "resnet18", batch: int = 32, repeats: int = 3) -> list[Step]:
    """Measure a step of each scheme, of a network on images of CIFAR-10's shape."""
    network = models.build(model, (3, 32, 32), 10, seed=0)
    images, labels = torch.rand(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64)
    compute = median_seconds(lambda: gradient(network, images, labels), repeats)
    _, update, _ = gradient(network, images, labels)
    return [_step(spec, update, compute, repeats) for spec in schemes]


def _step(spec: str, update: Update, compute: float, repeats: int) -> Step:
    """Rounds with one client; the first is not counted, for there schemes have no memory yet."""
    scheme, layout, party = parse(spec), Layout.of(update), client(0)
    private, public = scheme.private_state(layout), scheme.public_state(layout)
    seconds = []
    for index in range(1 + repeats):
        transport = InProcess(Transcript(keep=1))
        round = Round(index, (party,), 0, layout)
        started = time.perf_counter()
        half = scheme.client(update, private, public, round)
        outcomes, _ = transport.exchange({party: half}, scheme.server(public, round), index)
        seconds.append(time.perf_counter() - started)
        private, public = outcomes[party].private, outcomes[party].public
    carried = transport.transcript.bytes_up() + transport.transcript.bytes_down()
    coding = sorted(seconds[1:])[repeats // 2]
    return Step(spec, compute, coding, carried, len(list(transport.transcript.messages())))
