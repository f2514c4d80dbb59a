"""A scheme applied to one group of parameters after the other, as DDP does with its buckets."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch

from gradwire.errors import WireError
from gradwire.schemes.halves import advanced, joined, relayed, under
from gradwire.schemes.imitation import Stacked, imitated
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, Term
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme
from gradwire.wire import ClientHalf, Deal, Need, Send, ServerHalf, Tensors

Y = TypeVar("Y", Send, Send | Deal | None)
G = TypeVar("G")
R = TypeVar("R")


def labelled(half: Generator[Y, G, R], label: int) -> Generator[Y, G, R]:
    """The half of either side with its phases named `label/phase`, so that several can share a round."""
    return relayed(half, lambda item: item if item is None else replace(item, phase=f"{label}/{item.phase}"))


@dataclass(frozen=True)
class Bucketed(Scheme):
    """One scheme, bucket by bucket, each with a state of its own.

    Attributes:
        scheme: what is done within a bucket.
        buckets: parameter names, in the order of the buckets and of the parameters in them.
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
        return joined({i: self.scheme.public_state(part) for i, part in enumerate(self.layouts(layout))})

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """As `public_state`; every bucket's random numbers are its own."""
        return joined({i: self.scheme.private_state(part, secret + i) for i, part in enumerate(self.layouts(layout))})

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """The scheme's own half for each bucket in turn."""
        outcomes = []
        for i, layout in enumerate(self.layouts(round.layout)):
            part = {name: update[name] for name in layout.shapes}
            half = self.scheme.client(part, under(private, i), under(public, i), replace(round, layout=layout))
            outcomes.append((yield from labelled(half, i)))
        return _together(outcomes, round.layout)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """The scheme's own half for each bucket in turn."""
        outcomes = []
        uploads = yield None
        for i, layout in enumerate(self.layouts(round.layout)):
            half = labelled(self.scheme.server(under(public, i), replace(round, layout=layout)), i)
            next(half)
            # A half returns when it is sent what comes after its last reply: the next bucket's first uploads.
            reply, outcome = advanced(half, uploads)
            while outcome is None:
                uploads = yield reply
                reply, outcome = advanced(half, uploads)
            outcomes.append(outcome)
        return _together(outcomes, round.layout)

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """As the scheme within the bucket."""
        label, _, own = phase.partition("/")
        if not label.isdecimal() or int(label) >= len(self.buckets):
            raise WireError(f"there is no phase {phase!r} in {len(self.buckets)} buckets")
        self.scheme.check(own, tensors, self.within(int(label), round))

    def decode(self, observation: Observation) -> Update:
        """Each bucket as the scheme decodes it."""
        decoded = [self.scheme.decode(part) for part in self._observations(observation)]
        return {name: tensor for part in decoded for name, tensor in part.items()}

    def taken(self, observation: Observation) -> Update:
        """Each bucket's, as the scheme takes it."""
        taken = [self.scheme.taken(part) for part in self._observations(observation)]
        return {name: tensor for part in taken for name, tensor in part.items()}

    def kept_back(self, private: State, layout: Layout) -> Update:
        """Each bucket's."""
        parts = [self.scheme.kept_back(under(private, i), part) for i, part in enumerate(self.layouts(layout))]
        return {name: tensor for part in parts for name, tensor in part.items()}

    def measure(self, observation: Observation) -> Measurement:
        """The terms of all buckets."""
        measured = [self.scheme.measure(part) for part in self._observations(observation)]
        return {name: terms for part in measured for name, terms in part.items()}

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement | None:
        """Bucket by bucket, where the scheme within them has a rule."""
        found: dict[str, Sequence[Term]] = {}
        for i in range(len(self.buckets)):
            part = imitated(self.scheme, own, means, under(public, i), self.within(i, round), random)
            if part is None:
                return None
            found |= part
        return found

    def within(self, label: int, round: Round) -> Round:
        """The round of one bucket."""
        return replace(round, layout=round.layout.part(self.buckets[label]))

    def layouts(self, layout: Layout) -> list[Layout]:
        """Each bucket's part of a model's layout."""
        return [layout.part(names) for names in self.buckets]

    def _observations(self, observation: Observation) -> list[Observation]:
        uploads, replies, public = observation.uploads, observation.replies, observation.public
        return [
            Observation(under(uploads, i), under(replies, i), under(public, i), self.within(i, observation.round))
            for i in range(len(self.buckets))
        ]


def _together(outcomes: list[Outcome], layout: Layout) -> Outcome:
    aggregate = {name: tensor for outcome in outcomes for name, tensor in outcome.aggregate.items()}
    public, private = ({i: getattr(o, kind) for i, o in enumerate(outcomes)} for kind in ("public", "private"))
    return Outcome({name: aggregate[name] for name in layout.shapes}, joined(public), joined(private))
