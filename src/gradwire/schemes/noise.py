"""Noise: every client adds Gaussian noise to each entry before it sends.

The defence that L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.1. Nothing is
clipped, so that it is no differential privacy.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome, Round, State
from gradwire.seeds import generator
from gradwire.wire import ClientHalf
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class Noise(PlainSGD):
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
        """Send the update and the noise as plain SGD sends the update; what is known of it is `deviation`."""
        vector = round.layout.flatten(update)
        noisy = round.layout.unflatten(vector + self._draw(private, round).to(vector))
        return (yield from super().client(noisy, private, public, round))

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the noise. A mean over clients has less; it is the victim's alone that counts."""
        return self.std

    def _draw(self, private: State, round: Round) -> Tensor:
        return self.std * torch.randn(round.layout.size, generator=generator("noise", int(private["key"]), round.index))
