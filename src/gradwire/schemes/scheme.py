"""What a scheme is: a frozen set of hyper-parameters with two halves that talk, and what an adversary makes of it.

State is explicit. *Private* state belongs to one client (residuals), *public* state is known to whoever listened
from the first round (warm starts); both are flat mappings of names to tensors, so that they can be stored by
anything that stores tensors. No scheme opens a socket, reads a clock or keeps anything between two calls.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from gradwire import seeds
from gradwire.errors import GradwireError
from gradwire.registry import SCHEMES
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStepHook
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.wire import ClientHalf, ServerHalf, Tensors
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class Scheme(ABC):
    """What is done to updates between the parties. Subclasses are frozen dataclasses of hyper-parameters."""

    name: ClassVar[str]
    hosted: ClassVar[bool] = False
    """Whether there must be a server that sees what the clients do not: collectives have none."""

    @property
    def spec(self) -> str:
        """The spec that `schemes.parse` reads back: the name and what differs from the defaults."""
        return SCHEMES.spec(self)

    def public_state(self, layout: Layout) -> State:
        """The public state before the first round."""
        return {}

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A client's private state before its first round; `secret` is what its own random numbers come from."""
        return {}

    def adapt(self, model: nn.Module, seed: int) -> nn.Module:
        """The network that is trained under the scheme: by default `model` itself.

        A scheme that changes the network returns a changed copy, whose new parameters `seed` decides, and a network
        that it has changed already as it is. Everybody knows the network that is trained.
        """
        return model

    @property
    def step_hook(self) -> LocalStepHook | None:
        """What clients do to their steps while they train; by default nothing, which is None."""
        return None

    def check_local(self, local: bool, weighted: bool = False) -> None:  # noqa: B027 (most schemes take either)
        """Refuse updates of a kind that the scheme has no use for.

        Args:
            local: whether clients send what local steps of theirs changed, or the gradient of one batch.
            weighted: whether each update is scaled by its client's weight before the scheme gets it.
        """

    def check_rounds(self, rounds: int) -> None:  # noqa: B027 (most schemes are content with any number)
        """Refuse a training run of so many rounds in which the scheme could not do what it is there for."""

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What a report has to say of a run, from the states (party → state) that its clients have come out with."""
        return ()

    def guarantee(self, private: Mapping[str, State]) -> tuple[float, float] | None:
        """(ε, δ) with which clients' examples are differentially private, from their states; None where there is none.

        Args:
            private: party → state, as training has left it.
        """
        return None

    @property
    def local_momentum(self) -> float:
        """The momentum that clients keep themselves: where there is any, the optimiser must not add its own."""
        return 0.0

    def identity(self, private: State) -> State:
        """The public part of a client's private state that the others must know before the first round."""
        return {}

    def with_keys(self, private: State, party: str, identities: Mapping[str, State]) -> State:
        """A client's private state once it knows its own name and, from a source it trusts, everybody's identity."""
        return private

    @abstractmethod
    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """The client's half of a round: what it sends of `update`, and what it makes of the replies."""

    @abstractmethod
    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """The server's half of a round."""

    @abstractmethod
    def decode(self, observation: Observation) -> Update:
        """The victim's update as the scheme itself decodes it: all that a naive adversary looks at."""

    @abstractmethod
    def measure(self, observation: Observation) -> Measurement:
        """What was sent, as a map of the update that an adaptive adversary can fit."""

    @property
    def feeds_back(self) -> bool:
        """Whether clients add all that they have not sent of earlier updates to the next one, and nothing else."""
        return False

    def pooled(self, round: Round) -> int:
        """How many clients' updates the server's observation is the mean of: all of them where it sees sums alone."""
        return 1

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the noise in every entry of what is sent; 0 where there is none.

        Args:
            batch: images that the victim holds; `work`, its local steps, None for one gradient.
        """
        return 0.0

    def known(self, model: nn.Module, observation: Observation, batch: int) -> nn.Module:
        """The network that an adaptive adversary searches with, once it has seen the gradient of a batch's images.

        By default that which everybody trains. Where a network draws random numbers, an update may give them away.
        """
        return model

    def opened(self, upload: Tensors, party: str, public: State, round: Round) -> Tensors:
        """A client's message in the form in which the server answers to all: by default as it was sent."""
        return upload

    def others(self, reply: Tensors, own: Tensors, round: Round) -> Tensors:
        """What a fellow client works out of a phase: the mean upload of the others, by taking its own out.

        This default holds where the server's reply is the mean of the uploads, once they are `opened`.
        """
        n = len(round.clients)
        return {name: (n * reply[name] - own[name]) / (n - 1) for name in own}


Told = Mapping[str, State]
"""Party → what it tells the others."""


def initial_states(
    scheme: Scheme, layout: Layout, parties: Sequence[str], seed: int, tell: Callable[[Told], Told] = lambda told: told
) -> dict[str, State]:
    """The parties' private states before the first round, with secrets of their own, introduced to one another.

    Args:
        parties: those that live in this process.
        tell: from the identities of these to those of all parties, by a way that all trust; see `exchange_keys`.
    """
    states = {p: scheme.private_state(layout, seeds.number("private", seed, p)) for p in parties}
    return exchange_keys(scheme, states, tell)


def exchange_keys(
    scheme: Scheme, private: Mapping[str, State], tell: Callable[[Told], Told] = lambda told: told
) -> dict[str, State]:
    """The parties' states once they have been introduced to one another, out of band: not over the wire they audit.

    Args:
        tell: from the identities of the parties in this process to those of all; by default all of them live here.
    """
    identities = tell({party: scheme.identity(state) for party, state in private.items()})
    return {party: scheme.with_keys(state, party, identities) for party, state in private.items()}


def check_collective(scheme: Scheme) -> None:
    """Refuse a scheme that cannot run where the clients are on their own, as over torch.distributed."""
    if scheme.hosted:
        raise GradwireError(f"scheme {scheme.spec!r} needs a server apart from the clients; collectives have none")


def check_corrected(scheme: str, local: bool) -> None:
    """Refuse local work for a scheme that corrects the momentum of single gradients."""
    if local:
        raise GradwireError(f"{scheme} corrects the momentum of single gradients; local steps leave none: try topk")


def check_positive(scheme: str, name: str, value: float | None) -> None:
    """Refuse a hyper-parameter below 1."""
    if value is not None and value < 1:
        raise GradwireError(f"{scheme}: {name} is {value}; it must be at least 1")
