"""A round as schemes see it: its public facts, what a client brings, its outcome, what an adversary observes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan

import torch
from torch import Tensor

from gradwire.schemes.layout import Layout, Update
from gradwire.secure import identity
from gradwire.seeds import generator
from gradwire.wire import Own, Tensors
from gradwire.wire.view import Weights

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Round:
    """The public facts of a round: its number, its clients, the run's seed, the model's layout.

    Attributes:
        epoch: passes over the data before it, for schemes that change during training.
        start: the parameters with which the round begins, for schemes that send parameters and not changes; None where
            only updates are at hand.
        weights: how clients count. "equal": alike. "scaled": each scales its update by its weight, whose mean over all
            clients is 1. "told": each also tells its weight, and the mean is divided by the mean of the weights.
        began: the `fingerprint` of the parameters with which the round begins, where these are not kept.
    """

    index: int
    clients: tuple[str, ...]
    seed: int
    layout: Layout
    epoch: int = 0
    start: Update | None = field(default=None, repr=False, compare=False)
    weights: Weights = "equal"
    began: bytes = b""

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the parameters with which the round begins."""
        return self.began or identity.fingerprint(self.start or {})

    def without_start(self) -> "Round":
        """The same round for one who does not keep the parameters."""
        return replace(self, start=None, began=self.fingerprint)

    @cached_property
    def digest(self) -> bytes:
        """What everybody must have been told alike before the round: its facts, and the parameters it begins with."""
        facts = (self.index, self.clients, self.seed, self.epoch, self.weights, self.layout.shapes, self.layout.dtypes)
        return identity.digest(repr(facts).encode(), self.fingerprint)

    def generator(self, *words: int | str) -> torch.Generator:
        """Public random numbers: every party draws the same."""
        return generator("public", self.seed, self.index, *words)


@dataclass(frozen=True)
class Contribution:
    """What a client brings to a round.

    Attributes:
        update: a gradient, or old − new parameters; on the CPU.
        private: its state under the scheme, after training.
        buffers: the model's buffers after its last forward pass, as far as they are sent.
        weight: how much it counts, 1 in the mean over all clients.
        loss: the mean over its steps' examples.
    """

    update: Update = field(repr=False)
    private: State = field(repr=False)
    buffers: Tensors = field(default_factory=dict, repr=False)
    weight: float = 1.0
    loss: float = nan


@dataclass(frozen=True)
class Outcome:
    """What a party has at the end of a round.

    Attributes:
        aggregate: the mean update, as everybody decodes it.
        public: the public state for the next round.
        private: the client's private state for the next round; empty for the server.
        refused: clients whose upload the server could not use, party → why. The mean is that of the others.
        buffers: the mean buffers.
    """

    aggregate: Update
    public: State
    private: State
    refused: Mapping[str, str] = field(default_factory=dict)
    buffers: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """One victim's part in a round, as an adversary has worked it out.

    Attributes:
        uploads: of the victim, phase by phase.
        replies: of the server, phase by phase.
        public: the scheme's public state before the round.
        own: what the adversary brought to the round, if it is a fellow client.
    """

    uploads: Mapping[str, Tensors]
    replies: Mapping[str, Tensors]
    public: State
    round: Round
    victim: str = "client:0"
    own: Own | None = field(default=None, repr=False)
