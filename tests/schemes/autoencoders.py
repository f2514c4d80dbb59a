"""Clients whose updates an autoencoder codes, round after round."""

import torch

from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, LocalStep, Round, parse
from gradwire.wire import InProcess
from tests.schemes.rounds import flat, random_update

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (10, 12), "head.bias": (10,)}
LAYOUT = Layout(SHAPES)
PARTIES = ("client:0", "client:1")
NUMBERS = sum(LAYOUT.sizes.values())
LAYERS = len(SHAPES)
"""As many steps does a pass take: each layer is shorter than a segment."""


class Training:
    """Two clients whose local steps are drawn at random, round after round."""

    def __init__(self, spec="autoencoder:warmup_rounds=2,warmup_iterations=2,passes=1", parties=PARTIES):
        self.scheme = parse(spec)
        self.private = {p: self.scheme.private_state(LAYOUT, i) for i, p in enumerate(parties)}
        self.public, self.round, self.model = {}, 0, random_update(99, SHAPES)

    def run(self, steps=3, take=None, tamper=None):
        parties = tuple(take or self.private)
        context = Round(self.round, parties, 0, LAYOUT, start=self.model)
        brought, self.settled = {}, {}
        for party in parties:
            now, state = self.model, self.private[party]
            for index in range(steps):
                change = random_update(1000 * self.round + 10 * index + len(party), SHAPES)
                stepped = {n: p - 0.01 * change[n] for n, p in now.items()}
                now, state = self.scheme.step_hook.after_step(
                    stepped, state, LocalStep(context, index, steps, 8, 64, 0)
                )
            if tamper and party == parties[0]:
                state = tamper(state)
            self.settled[party] = now
            update = {name: p - now[name] for name, p in self.model.items()}
            brought[party] = Contribution(update, state)
        transport = InProcess()
        served = run_round(self.scheme, brought, self.public, context, transport)
        self.sent = {m.sender: m.tensors for m in transport.transcript.messages() if m.sender != "server"}
        self.bytes = transport.transcript.bytes_up(parties[0])
        self.private |= served.private
        self.public, self.round = served.public, self.round + 1
        self.model = {name: p - served.aggregate[name] for name, p in self.model.items()}
        return served


def alone(spec, factor=1.0):
    """A scheme, parameters, the state of an untrained autoencoder, and the first round, which begins with these."""
    scheme, parameters = parse(f"autoencoder:{spec}"), {n: factor * p for n, p in random_update(1, SHAPES).items()}
    return scheme, parameters, scheme.private_state(LAYOUT, 0), Round(0, PARTIES, 0, LAYOUT, start=parameters)


def average(training, parties=PARTIES):
    return torch.stack([flat(training.settled[party]) for party in parties]).mean(0)


def through(scheme, parameters, state, context):
    """What a client's autoencoder makes of parameters."""
    return scheme.after_step(parameters, state, LocalStep(context, 1, 2, 8, 8, 0))[0]
