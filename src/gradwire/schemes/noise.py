"""Noise: every client adds Gaussian noise to each entry before it sends.

The defence that L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.1. Nothing is
clipped, so that this is no differential privacy.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradwire.errors import positive
from gradwire.schemes.imitation import Stacked, flat, parts
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Dense, Measurement
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.scheme import own_key, own_random
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
        positive(self.name, self, "std")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own noise."""
        return own_key(secret)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send g + n as plain SGD sends g."""
        vector = round.layout.flatten(update)
        noise = self.std * torch.randn(len(vector), generator=own_random(private, "noise", round.index))
        return (yield from super().client(round.layout.unflatten(vector + noise.to(vector)), private, public, round))

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """Every gradient with noise of its own."""
        vectors = flat(own, round.layout)
        noise = self.std * torch.randn(vectors.shape, generator=random)
        return {name: [Dense(part)] for name, part in parts(vectors + noise.to(vectors), round.layout).items()}

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the victim's noise."""
        return self.std
