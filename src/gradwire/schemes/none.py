"""No scheme at all: every client sends its update as it is, and gets the mean."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradwire.schemes.halves import mean
from gradwire.schemes.imitation import Stacked
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Dense, Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme, exactly
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors, wide


@dataclass(frozen=True)
class PlainSGD(Scheme):
    """Plain distributed SGD: the baseline of everything."""

    name: ClassVar[str] = "none"

    def payload(self, dtype: torch.dtype) -> torch.dtype | None:
        """At least float32. A subclass may do more to updates, and inherits no rule."""
        return wide(dtype) if type(self) is PlainSGD else None

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the update, flat."""
        reply = yield Send("update", {"dense": round.layout.vector(update)}, mean=True, settled=private)
        return Outcome(round.layout.unflatten(reply["dense"]), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean."""
        uploads = yield None
        average = mean(uploads)
        yield Send("update", average)
        return Outcome(round.layout.unflatten(average["dense"]), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """One vector of the model's size."""
        exactly(tensors, {"dense": (round.layout.size,)}, round.layout.dtype)

    def decode(self, observation: Observation) -> Update:
        """The update itself."""
        return observation.round.layout.unflatten(observation.uploads["update"]["dense"])

    def measure(self, observation: Observation) -> Measurement:
        """Every entry was sent."""
        return dense(self.decode(observation))

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """Every entry of every gradient."""
        return {name: [Dense(own[name].to(round.layout.dtype))] for name in round.layout.shapes}
