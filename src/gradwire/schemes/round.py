"""A round as schemes know it: what is public about it, what a party brings and takes away, what an adversary sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

import torch
from torch import Tensor

from gradwire.schemes.layout import Layout, Update
from gradwire.seeds import generator
from gradwire.wire import Own, Tensors
from gradwire.wire.view import Weights

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Round:
    """What is public about a round: its number, the parties in it, the run's seed, the model's layout.

    Attributes:
        epoch: passes over the data before it, for schemes that change as training goes on.
        start: the parameters that everybody begins the round with, for schemes that send parameters and not changes;
            None where only updates are at hand.
        weights: how clients count. "equal": alike. "scaled": each scales its update by its weight, whose mean over all
            clients is 1, and tells nobody. "told": each also tells its weight, and the mean is divided by theirs.
    """

    index: int
    clients: tuple[str, ...]
    seed: int
    layout: Layout
    epoch: int = 0
    start: Update | None = field(default=None, repr=False, compare=False)
    weights: Weights = "equal"

    def generator(self, *words: int | str) -> torch.Generator:
        """Public randomness: every party that makes this generator draws the same numbers from it."""
        return generator("public", self.seed, self.index, *words)


@dataclass(frozen=True)
class Contribution:
    """What a client comes to a round's exchange with.

    Attributes:
        update: a gradient, or old − new parameters; on the CPU.
        private: its state under the scheme, as training left it.
        buffers: what its last forward pass left in the model's buffers; those that are sent beside the update.
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
        public: the public state to go into the next round with.
        private: the client's private state to go into the next round with (empty for the server).
        refused: clients whose upload the server could not use, party → why; the mean is that of the others.
        buffers: the mean of what was sent beside the updates.
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
        uploads: what the victim sent, phase by phase.
        replies: what the server answered to all, phase by phase.
        public: the scheme's public state before the round.
        victim: who sent it.
        own: what the adversary brought to the round, where it is a fellow client.
    """

    uploads: Mapping[str, Tensors]
    replies: Mapping[str, Tensors]
    public: State
    round: Round
    victim: str = "client:0"
    own: Own | None = field(default=None, repr=False)
