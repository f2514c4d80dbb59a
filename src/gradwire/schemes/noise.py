"""Noise: every client adds Gaussian noise to each entry before it sends.

The defence that L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.1. Nothing is
clipped, so that it is no differential privacy.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.aggregate import mean
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.scheme import Outcome, Round, Scheme, Sight, State
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Send, ServerHalf


@dataclass(frozen=True)
class Noise(Scheme):
    """Send g + n with n ~ N(0, std²·I), drawn anew every round.

    Attributes:
        std: the noise's standard deviation, on the scale of the gradient.
    """

    name: ClassVar[str] = "noise"

    std: float

    def __post_init__(self) -> None:
        if not 0 < self.std < float("inf"):
            raise GradwireError(f"noise: std is {self.std}; it must be positive and finite")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own noise: who knew it could take the noise away."""
        return {"key": torch.tensor([secret], dtype=torch.int64)}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the update and the noise, as one flat vector."""
        vector = round.layout.flatten(update)
        reply = yield Send("update", {"dense": vector + self._draw(private, round).to(vector)}, mean=True)
        return Outcome(round.layout.unflatten(reply["dense"]), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean."""
        uploads = yield None
        average = mean(uploads)
        yield Send("update", average)
        return Outcome(round.layout.unflatten(average["dense"]), public, {})

    def decode(self, sight: Sight) -> Update:
        """The update as it was sent, noise and all."""
        return sight.round.layout.unflatten(sight.uploads["update"]["dense"])

    def measure(self, sight: Sight) -> Measurement:
        """Every entry was sent; `deviation` tells how far to trust it."""
        return dense(self.decode(sight))

    def deviation(self, round: Round) -> float:
        """The standard deviation of the noise. A mean over clients has less; it is the victim's alone that counts."""
        return self.std

    def _draw(self, private: State, round: Round) -> Tensor:
        return self.std * torch.randn(round.layout.size, generator=generator("noise", int(private["key"]), round.index))
