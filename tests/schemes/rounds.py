"""Driving a scheme through a round in tests: the in-process transport, and states that go in and come out."""

from dataclasses import dataclass, field

import torch

from gradwire.schemes import Layout, Observation, Round, Scheme, exchange_keys, parse
from gradwire.wire import SERVER, InProcess, client
from gradwire.wire.transport import drive


@dataclass
class Cluster:
    """Clients that send updates through one scheme, round after round."""

    scheme: Scheme
    layout: Layout
    clients: int
    round: int = 0
    public: dict = field(default_factory=dict)
    private: dict = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str, updates: list[dict[str, torch.Tensor]]) -> "Cluster":
        scheme, layout = parse(spec), Layout.of(updates[0])
        states = {client(i): scheme.private_state(layout, secret=i) for i in range(len(updates))}
        private = exchange_keys(scheme, states)
        return cls(scheme, layout, len(updates), 0, scheme.public_state(layout), private)

    def run(self, updates: list[dict[str, torch.Tensor]]):
        """One round: the aggregate that everybody ends up with, and the first client's part as the server saw it."""
        parties = tuple(self.private)
        context = Round(self.round, parties, 0, self.layout)
        halves = {
            party: self.scheme.client(update, self.private[party], self.public, context)
            for party, update in zip(parties, updates, strict=True)
        }
        transport = InProcess()
        outcomes, served = drive(transport, halves, self.scheme.server(self.public, context), self.round)
        for outcome in outcomes.values():
            for name in self.layout.shapes:
                torch.testing.assert_close(outcome.aggregate[name], served.aggregate[name])
        messages = list(transport.transcript.messages())
        observation = Observation(
            {m.phase: m.tensors for m in messages if m.sender == parties[0]},
            {m.phase: m.tensors for m in messages if m.sender == SERVER},
            self.public,
            context,
        )
        self.private = {party: outcomes[party].private for party in parties}
        self.public = served.public
        self.round += 1
        self.bytes_up = transport.transcript.bytes_up(parties[0])
        return served.aggregate, observation

    def others(self, observation: Observation, phase: str) -> dict[str, torch.Tensor]:
        """What the client whose part is observed works out of the others' uploads in a phase."""
        reply, own = observation.replies[phase], observation.uploads[phase]
        return self.scheme.others(reply, own, observation.victim, observation.public, observation.round)


SHAPES = {"conv.weight": (6, 4, 3, 3), "conv.bias": (6,), "head.weight": (10, 24), "head.bias": (10,)}


def random_update(seed: int, shapes=None) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in (shapes or SHAPES).items()}


def flat(update) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in update.values()])
