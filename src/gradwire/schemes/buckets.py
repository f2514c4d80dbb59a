"""A scheme applied to one group of parameters after the other, as DDP does with its buckets."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from torch import Tensor

from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme
from gradwire.wire import ClientHalf, Deal, Need, Send, ServerHalf, Tensors

Y = TypeVar("Y", Send, Send | Deal | None)
G = TypeVar("G")
R = TypeVar("R")


def labelled(half: Generator[Y, G, R], label: int) -> Generator[Y, G, R]:
    """The half of either side, its phases named `label/phase`, so that several can share a round."""
    item = next(half)
    while True:
        got = yield item if item is None else replace(item, phase=f"{label}/{item.phase}")
        try:
            item = half.send(got)
        except StopIteration as stop:
            return stop.value


@dataclass(frozen=True)
class Bucketed(Scheme):
    """One scheme, bucket by bucket, each with a state of its own.

    Attributes:
        scheme: what is done within a bucket.
        buckets: parameter names, in the order in which buckets are sent and parameters stand in them.
    """

    name: ClassVar[str] = "buckets"

    scheme: Scheme
    buckets: tuple[tuple[str, ...], ...]

    @property
    def spec(self) -> str:
        """That of the scheme within the buckets."""
        return self.scheme.spec

    @property
    def needs(self) -> frozenset[Need]:
        """Those of the scheme within the buckets."""
        return self.scheme.needs

    @property
    def feeds_back(self) -> bool:
        """As the scheme within the buckets."""
        return self.scheme.feeds_back

    @property
    def local_momentum(self) -> float:
        """That of the scheme within the buckets."""
        return self.scheme.local_momentum

    def public_state(self, layout: Layout) -> State:
        """All buckets' states, their names preceded by the bucket's number."""
        return joined(dict(enumerate(self.scheme.public_state(part) for part in self.layouts(layout))))

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """As `public_state`; every bucket's random numbers are its own."""
        states = (self.scheme.private_state(part, secret + i) for i, part in enumerate(self.layouts(layout)))
        return joined(dict(enumerate(states)))

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """The scheme's own half for each bucket in turn."""
        outcomes = []
        for i, layout in enumerate(self.layouts(round.layout)):
            part = {name: update[name] for name in layout.shapes}
            context = replace(round, layout=layout)
            half = self.scheme.client(part, under(private, i), under(public, i), context)
            outcomes.append((yield from labelled(half, i)))
        return _together(outcomes, round.layout)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """The scheme's own half for each bucket in turn."""
        outcomes = []
        uploads = yield None
        for i, layout in enumerate(self.layouts(round.layout)):
            half = labelled(self.scheme.server(under(public, i), replace(round, layout=layout)), i)
            next(half)
            while True:
                # A half returns when it is sent what comes after its last reply: the next bucket's first uploads.
                try:
                    reply = half.send(uploads)
                except StopIteration as stop:
                    outcomes.append(stop.value)
                    break
                uploads = yield reply
        return _together(outcomes, round.layout)

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """As the scheme within the bucket."""
        label, _, own = phase.partition("/")
        self.scheme.check(own, tensors, replace(round, layout=self.layouts(round.layout)[int(label)]))

    def decode(self, observation: Observation) -> Update:
        """Each bucket as the scheme decodes it."""
        return {
            name: tensor
            for part in self._observations(observation)
            for name, tensor in self.scheme.decode(part).items()
        }

    def measure(self, observation: Observation) -> Measurement:
        """The terms of all buckets."""
        return {
            name: terms for part in self._observations(observation) for name, terms in self.scheme.measure(part).items()
        }

    def layouts(self, layout: Layout) -> list[Layout]:
        """Each bucket's part of a model's layout."""
        return [layout.part(names) for names in self.buckets]

    def _observations(self, observation: Observation) -> list[Observation]:
        return [
            Observation(
                under(observation.uploads, i),
                under(observation.replies, i),
                under(observation.public, i),
                replace(observation.round, layout=part),
            )
            for i, part in enumerate(self.layouts(observation.round.layout))
        ]


V = TypeVar("V", Tensor, Tensors)


def under(entries: Mapping[str, V], label: int) -> dict[str, V]:
    """The entries of one bucket, their names without its number."""
    start = f"{label}/"
    return {name.removeprefix(start): value for name, value in entries.items() if name.startswith(start)}


def joined(states: Mapping[int, State]) -> dict[str, Tensor]:
    """The states of several buckets as one, each name preceded by the bucket's number."""
    return {f"{label}/{name}": tensor for label, state in states.items() for name, tensor in state.items()}


def _together(outcomes: list[Outcome], layout: Layout) -> Outcome:
    aggregate = {name: tensor for outcome in outcomes for name, tensor in outcome.aggregate.items()}
    return Outcome(
        {name: aggregate[name] for name in layout.shapes},
        joined(dict(enumerate(outcome.public for outcome in outcomes))),
        joined(dict(enumerate(outcome.private for outcome in outcomes))),
    )
