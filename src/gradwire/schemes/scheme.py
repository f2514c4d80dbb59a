"""What a scheme is: a frozen set of hyper-parameters with two halves that talk, and what an adversary makes of it.

State is explicit. *Private* state belongs to one client (residuals), *public* state is known to whoever listened
from the first round (warm starts); both are flat mappings of names to tensors, so that they can be stored by
anything that stores tensors. No scheme opens a socket, reads a clock or keeps anything between two calls.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, ServerHalf, Tensors

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Round:
    """What is public about a round: its number, the parties in it, the run's seed, the model's layout."""

    index: int
    clients: tuple[str, ...]
    seed: int
    layout: Layout

    def generator(self) -> torch.Generator:
        """Public randomness: every party that makes this generator draws the same numbers from it."""
        return generator("public", self.seed, self.index)


@dataclass(frozen=True)
class Outcome:
    """What a party has at the end of a round.

    Attributes:
        aggregate: the mean update, as everybody decodes it.
        public: the public state to go into the next round with.
        private: the client's private state to go into the next round with (empty for the server).
    """

    aggregate: Update
    public: State
    private: State


@dataclass(frozen=True)
class Sight:
    """One victim's part in a round, as an adversary has worked it out.

    Attributes:
        uploads: what the victim sent, phase by phase.
        replies: what the server answered to all, phase by phase.
        public: the scheme's public state before the round.
    """

    uploads: Mapping[str, Tensors]
    replies: Mapping[str, Tensors]
    public: State
    round: Round


@dataclass(frozen=True)
class Scheme(ABC):
    """What is done to updates between the parties. Subclasses are frozen dataclasses of hyper-parameters."""

    name: ClassVar[str]

    @property
    def spec(self) -> str:
        """The spelling that `schemes.parse` reads back: the name and what differs from the defaults."""
        changed = ((f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default)
        values = ",".join(f"{name}={_spell(value)}" for name, value in changed)
        return f"{self.name}:{values}" if values else self.name

    def public_state(self, layout: Layout) -> State:
        """The public state before the first round."""
        return {}

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A client's private state before its first round; `secret` is what its own random numbers come from."""
        return {}

    @abstractmethod
    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """The client's half of a round: what it sends of `update`, and what it makes of the replies."""

    @abstractmethod
    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """The server's half of a round."""

    @abstractmethod
    def decode(self, sight: Sight) -> Update:
        """The victim's update as the scheme itself decodes it: all that a naive adversary looks at."""

    @abstractmethod
    def measure(self, sight: Sight) -> Measurement:
        """What was sent, as a map of the update that an adaptive adversary can fit."""

    def deviation(self, round: Round) -> float:
        """The standard deviation of the noise in every entry of what is sent; 0 where there is none."""
        return 0.0

    def others(self, reply: Tensors, own: Tensors, round: Round) -> Tensors:
        """What a fellow client works out of a phase: the mean upload of the others, by taking its own out.

        This default holds where the server's reply is the mean of the uploads.
        """
        n = len(round.clients)
        return {name: (n * reply[name] - own[name]) / (n - 1) for name in own}


def check_positive(scheme: str, name: str, value: float | None) -> None:
    """Refuse a hyper-parameter below 1."""
    if value is not None and value < 1:
        raise GradwireError(f"{scheme}: {name} is {value}; it must be at least 1")


def _spell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
