"""Two schemes in a row, such as `powersgd:rank=4+sga`: the second forms the means of the first as secure sums.

This needs a first scheme whose messages are all averaged entry by entry (`Send.mean`). Where each client sends other
entries, or integers in units of its own, their sum over Z_R means nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import ClassVar

import torch

from gradwire.errors import GradwireError, WireError
from gradwire.schemes.accounting import Guarantee
from gradwire.schemes.halves import advanced, joined, under
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Accounting, KeyExchange, OwnNetwork, Scheme, guarantees
from gradwire.schemes.sga import SGA
from gradwire.schemes.ssga import SSGA
from gradwire.schemes.topk import TopK
from gradwire.secure import identity
from gradwire.wire import ClientHalf, Need, ServerHalf, Tensors
from gradwire.wire.view import LocalWork

INNER, OUTER = "first", "sum"
"""The labels of the two schemes' states."""


@dataclass(frozen=True)
class Composed(Scheme, KeyExchange, LocalStepHook, Accounting):
    """The scheme `first` with every mean as a secure sum, as `outer` has it."""

    name: ClassVar[str] = "composed"
    sums_only = True

    first: Scheme
    outer: SGA

    def __post_init__(self) -> None:
        self._phases(Layout({"w": (2, 2)}))
        if self.outer.dp is not None:
            several = f"what {self.first.name} sends is several sums"
            raise GradwireError(f"{self.spec}: dp stands with sga or ssga alone; {several}")

    @property
    def spec(self) -> str:
        """Both specs, with a plus between."""
        return f"{self.first.spec}+{self.outer.spec}"

    @property
    def needs(self) -> frozenset[Need]:
        """What both need."""
        return self.first.needs | self.outer.needs

    @property
    def network(self) -> OwnNetwork | None:
        """That of the first scheme."""
        return self.first.network

    @property
    def protects(self) -> bool:
        """As the first scheme does."""
        return self.first.protects

    @property
    def step_hook(self) -> LocalStepHook | None:
        """That of the first scheme, on its part of the state."""
        return self if self.first.step_hook else None

    def public_state(self, layout: Layout) -> State:
        """Those of both."""
        return joined({INNER: self.first.public_state(layout), OUTER: self.outer.public_state(layout)})

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """Those of both."""
        inner, outer = (scheme.private_state(layout, secret) for scheme in (self.first, self.outer))
        return joined({INNER: inner, OUTER: outer})

    def public_keys(self, private: State) -> State:
        """Those of the secure sum."""
        return self.outer.public_keys(under(private, OUTER))

    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """The keys of the secure sum."""
        return joined({INNER: under(private, INNER), OUTER: self.outer.with_keys(under(private, OUTER), party, keys)})

    def with_identity(self, private: State, identity: bytes) -> State:
        """The signing key of the secure sum."""
        outer = self.outer.with_identity(under(private, OUTER), identity)
        return joined({INNER: under(private, INNER), OUTER: outer})

    @property
    def per_example(self) -> bool:  # type: ignore[override]
        """As the first scheme has it."""
        return self.first.step_hook is not None and self.first.step_hook.per_example

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """As the first scheme has it."""
        assert self.first.step_hook is not None
        followed, inner = self.first.step_hook.before_step(gradient, under(private, INNER), step)
        return followed, joined({INNER: inner, OUTER: under(private, OUTER)})

    def after_step(self, parameters: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """As the first scheme has it."""
        assert self.first.step_hook is not None
        left, inner = self.first.step_hook.after_step(parameters, under(private, INNER), step)
        return left, joined({INNER: inner, OUTER: under(private, OUTER)})

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """Those of both."""
        inner, outer = ({p: under(state, part) for p, state in private.items()} for part in (INNER, OUTER))
        return (*(self.first.accounting.notes(inner) if self.first.accounting else ()), *self.outer.notes(outer))

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """As the first scheme has it."""
        return guarantees(self.first, {party: under(state, INNER) for party, state in private.items()})

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Run the first scheme's half, with a secure mean in the place of each exchange."""
        protocol = self.outer.protocol
        member = yield from protocol.join(self.outer.gathering(round), under(private, OUTER), under(public, OUTER))
        half = self.first.client(update, under(private, INNER), under(public, INNER), round)
        send, outcome = advanced(half, None)
        while send is not None:
            shapes, gathering = Layout.of(send.tensors), replace(member.gathering, prefix=f"{send.phase} ")
            member = yield from protocol.beside(member, gathering)
            mean, member = yield from self.outer.summed(shapes.flatten(send.tensors), member, round)
            send, outcome = advanced(half, shapes.unflatten(mean))
        return self._outcome(outcome, member.state, round)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Run the first scheme's half as if there were one client, whose uploads are the means."""
        uploads = yield None
        protocol = self.outer.protocol
        server = protocol.server(self.outer.gathering(round), under(public, OUTER))
        server, uploads = yield from server.open(uploads)
        half = self.first.server(under(public, INNER), round)
        next(half)
        refused: dict[str, str] = {}
        for phase, shapes in self._phases(round.layout).items():
            server = protocol.server(replace(server.gathering, prefix=f"{phase} "))
            server, uploads = yield from server.open(uploads)
            mean, closing, server = yield from self.outer.summing(uploads, server, shapes, round)
            refused |= closing.left_out
            half.send({"everybody": shapes.unflatten(mean)})
            uploads = yield closing
        return replace(self._outcome(advanced(half, {})[1], {}, round), refused=refused)

    def _outcome(self, inner: Outcome | None, private: State, round: Round) -> Outcome:
        if inner is None:
            raise GradwireError(f"{self.first.name}: the server's half waits for a phase that its clients do not send")
        outer = self.outer.protocol.public(self.outer.gathering(round))
        public, private = (joined({INNER: a, OUTER: b}) for a, b in ((inner.public, outer), (inner.private, private)))
        return Outcome(inner.aggregate, public, private)

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """What a secure sum of the first scheme's message refuses."""
        before, _, own = phase.rpartition(" ")
        phases = self._phases(round.layout)
        if own != phase and before not in phases:
            raise WireError(f"{self.spec} has no phase {phase!r}")
        self.outer.check_sum(own, tensors, round, phases.get(before, Layout({})))

    def _phases(self, layout: Layout) -> Mapping[str, Layout]:
        """The phases of the first scheme, and the tensors that each of its clients sends in them."""
        return _phases(self.first, tuple(layout.shapes.items()), tuple(layout.dtypes.items()))

    def _gathering(self, round: Round, phase: str) -> identity.Gathering:
        """The secure sum of one phase of the first scheme."""
        return self.outer.gathering(round, f"{phase} ")

    def decode(self, observation: Observation) -> Update:
        """The mean of all clients, decoded by the first scheme."""
        return self.first.decode(self._inner(observation))

    def measure(self, observation: Observation) -> Measurement:
        """What the first scheme's measurement is of the mean of all clients."""
        return self.first.measure(self._inner(observation))

    @property
    def feeds_back(self) -> bool:
        """As the first scheme has it."""
        return self.first.feeds_back

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """That of a mean of as many clients' independent noise."""
        return self.first.deviation(round, batch, work) / len(round.clients) ** 0.5

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The reply itself: a fellow client takes what it masked out of the sums in `_inner`."""
        return reply

    def _inner(self, observation: Observation) -> Observation:
        """The first scheme's view of the round, in which means stand for what was sent.

        A fellow client takes what it sent itself out of them: its half of the first scheme says what that was.
        """
        round, public, own = observation.round, under(observation.public, INNER), observation.own
        half = None if own is None else self.first.client(own.update, under(own.private, INNER), public, round)
        reply: Tensors | None = None
        sent: dict[str, Tensors] = {}
        means: dict[str, Tensors] = {}
        for phase, shapes in self._phases(round.layout).items():
            send = None if half is None else advanced(half, reply)[0]
            mine = None if own is None or send is None else (shapes.flatten(send.tensors), under(own.private, OUTER))
            for tensors, part in ((means, ()), (sent, mine or ())):
                released = self.outer.released(observation, self._gathering(round, phase), *part)
                tensors[phase] = shapes.unflatten(self.outer.mean(*released, round, shapes.size).to(shapes.dtype))
            reply = means[phase]
        return Observation(sent, means, public, round, observation.victim)


def compose(first: Scheme, outer: Scheme) -> Scheme:
    """The scheme `first+outer`.

    With Top-K, clients have to agree on the entries first, which is SSGA: `topk:ratio=0.01+sga` is
    `ssga:compression=100`.

    Raises:
        GradwireError: where the algebra does not allow it, with the reason.
    """
    if type(outer) is not SGA:
        raise GradwireError(f"{first.name}+{outer.name}: only sga can stand behind a plus")
    if isinstance(first, SGA | Composed):
        raise GradwireError(f"{first.name}+sga: {first.name} is a secure sum already")
    if Need.WHOLE in first.needs and outer.threshold:
        raise GradwireError(f"{first.name}+sga: with a threshold clients may be gone, and with them their noise")
    if isinstance(first, TopK):
        if first.ratio is None:
            raise GradwireError("topk+sga: the union needs a ratio, not match_rank: topk:ratio=0.01+sga")
        same = {field.name: getattr(outer, field.name) for field in fields(outer)}
        return SSGA(compression=1 / first.ratio, residual=first.error_feedback, **same)
    return Composed(first, outer)


@lru_cache(maxsize=16)
def _phases(
    first: Scheme, shapes: tuple[tuple[str, tuple[int, ...]], ...], dtypes: tuple[tuple[str, torch.dtype], ...]
) -> Mapping[str, Layout]:
    """Phase → the tensors that a client of `first` sends in it, as a client half with nothing to send says.

    Raises:
        GradwireError: they are not averaged entry by entry.
    """
    layout = Layout(dict(shapes), dict(dtypes))
    alone = Round(0, ("client:0",), 0, layout)
    half = first.client(layout.zeros(), first.private_state(layout), first.public_state(layout), alone)
    phases: dict[str, Layout] = {}
    send, _ = advanced(half, None)
    while send is not None:
        if not send.mean:
            why = f"in phase {send.phase!r} of {first.name} clients send entries or units of their own, so that no sum"
            why = f"{why} of masked integers is their mean; sga:bits=8 compresses under masks"
            raise GradwireError(f"{first.name}+sga: {why}")
        phases[send.phase] = Layout.of(send.tensors)
        send, _ = advanced(half, send.tensors)
    return phases
