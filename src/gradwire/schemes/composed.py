"""Two schemes in a row, such as `powersgd:rank=4+sga`: the second takes the means of the first, as secure sums.

The algebra that this needs: whatever the first scheme's clients send must be averaged entry by entry (`Send.mean`).
Where each client sends other entries, or integers in units of its own, their sum over Z_R means nothing.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Accounting, KeyExchange, OwnNetwork, Scheme
from gradwire.schemes.sga import SGA, magnitude, told_maximum
from gradwire.schemes.ssga import SSGA
from gradwire.schemes.topk import TopK
from gradwire.secure import identity
from gradwire.secure.protocol import Member, ServerPart, Total, Uploads
from gradwire.wire import ClientHalf, Need, Send, ServerHalf, Tensors
from gradwire.wire.view import LocalWork

INNER, OUTER = "first/", "sum/"
"""Before the names of the two schemes' states."""


@dataclass(frozen=True)
class Composed(Scheme, KeyExchange):
    """The scheme `first` with every mean as a secure sum, as `outer` has it."""

    name: ClassVar[str] = "composed"

    first: Scheme
    outer: SGA

    def __post_init__(self) -> None:
        toy = Layout({"w": (2, 2)})
        alone = Round(0, ("client:0",), 0, toy)
        send = next(self.first.client(toy.zeros(), self.first.private_state(toy), self.first.public_state(toy), alone))
        _must_be_mean(self.first, send)

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
    def step_hook(self) -> LocalStepHook | None:
        """That of the first scheme, on its part of the state."""
        return None if self.first.step_hook is None else _Within(self.first.step_hook)

    @property
    def key_exchange(self) -> KeyExchange:
        """That of the secure sum."""
        return self

    @property
    def accounting(self) -> Accounting | None:
        """That of the first scheme: a secure sum only adds to what it guarantees."""
        return None if self.first.accounting is None else _AccountingWithin(self.first.accounting)

    def public_state(self, layout: Layout) -> State:
        """That of both."""
        return _joined(self.first.public_state(layout), self.outer.public_state(layout))

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """That of both."""
        return _joined(self.first.private_state(layout, secret), self.outer.private_state(layout, secret))

    def public_keys(self, private: State) -> State:
        """Those of the secure sum."""
        return self.outer.public_keys(_part(private, OUTER))

    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """As the secure sum has it."""
        return _joined(_part(private, INNER), self.outer.with_keys(_part(private, OUTER), party, keys))

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Run the first scheme's client half, and put a secure mean in the place of each of its exchanges."""
        member = yield from self.outer.protocol.join(
            self.outer.gathering(round), _part(private, OUTER), _part(public, OUTER)
        )
        half = self.first.client(update, _part(private, INNER), _part(public, INNER), round)
        reply: Tensors | None = None
        while True:
            try:
                send = half.send(reply)  # type: ignore[arg-type]
            except StopIteration as stop:
                return self._outcome(stop.value, member.state, round)
            _must_be_mean(self.first, send)
            reply = yield from self._mean(send, member, round)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Run the first scheme's server half as if there were one client, whose uploads are the means.

        What to expect of a phase the server learns by a client half of its own, with nothing to send.
        """
        uploads = yield None
        server = self.outer.protocol.server(self.outer.gathering(round), _part(public, OUTER))
        uploads = yield from server.open(uploads)
        idle = self.first.client(
            round.layout.zeros(), self.first.private_state(round.layout), _part(public, INNER), round
        )
        served = self.first.server(_part(public, INNER), round)
        next(served)
        expected: Send | None = next(idle)
        while expected is not None:
            shapes = Layout.of(expected.tensors)
            mean, closing = yield from self._server_mean(expected.phase, shapes, uploads, round)
            served.send({"everybody": mean})
            uploads = yield closing
            expected = _next(idle, mean)
        return self._outcome(_end(served), {}, round)

    def _mean(self, send: Send, member: Member, round: Round) -> ClientHalf[Tensors]:
        """A client's part in one secure mean."""
        shapes, gathering = Layout.of(send.tensors), self.outer.gathering(round, f"{send.phase} ")
        values = shapes.flatten(send.tensors)
        beside = yield from self.outer.protocol.beside(member, gathering)
        maximum = self.outer.max
        if maximum == "adaptive":
            reply = yield Send(gathering.phase("offer"), {"maximum": magnitude(values)})
            maximum = told_maximum(reply, gathering.where("offer", "server"))
        codes = self.outer.ring(round).encode(values, maximum, member.seat, self.outer.randomness(round, member.seat))
        total = yield from beside.add(codes, self.outer.ring(round), "masked")
        return shapes.unflatten(self.outer.mean(total, maximum, round))

    def _server_mean(
        self, phase: str, shapes: Layout, uploads: Uploads, round: Round
    ) -> ServerPart[tuple[dict[str, Tensor], Send]]:
        """The server's part in one secure mean, and the reply that closes it."""
        gathering = self.outer.gathering(round, f"{phase} ")
        server = self.outer.protocol.server(gathering)
        uploads = yield from server.open(uploads)
        maximum = self.outer.max
        if maximum == "adaptive":
            maximum = self.outer.largest(uploads, gathering)
            uploads = yield Send(gathering.phase("offer"), {"maximum": torch.tensor(maximum)})
        total = yield from server.total(uploads, self.outer.ring(round), shapes.size, "masked")
        closing = Send(gathering.phase(self.outer.protocol.closing("masked")), total.tensors())
        return shapes.unflatten(self.outer.mean(total, maximum, round)), closing

    def _outcome(self, inner: Outcome, private: State, round: Round) -> Outcome:
        after = self.outer.protocol.public(self.outer.gathering(round))
        return Outcome(inner.aggregate, _joined(inner.public, after), _joined(inner.private, private))

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

    @property
    def sums_only(self) -> bool:
        """That is what masks are for."""
        return True

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """That of a mean of as many clients' independent noise."""
        return self.first.deviation(round, batch, work) / len(round.clients) ** 0.5

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """A fellow client takes out of each sum what it masked itself (`_inner`)."""
        return reply

    def _inner(self, observation: Observation) -> Observation:
        """The first scheme's view of the round, in which means stand for what was sent.

        What to expect of a phase comes from a client half: a fellow client's own, or one with nothing to send.
        """
        round, public, own = observation.round, _part(observation.public, INNER), observation.own
        update = round.layout.zeros() if own is None else own.update
        private = self.first.private_state(round.layout) if own is None else _part(own.private, INNER)
        half = self.first.client(update, private, public, round)
        sent: dict[str, Tensors] = {}
        means: dict[str, Tensors] = {}
        expected: Send | None = next(half)
        while expected is not None:
            gathering = self.outer.gathering(round, f"{expected.phase} ")
            shapes = Layout.of(expected.tensors)
            reply = observation.replies[gathering.phase(self.outer.protocol.closing("masked"))]
            total = Total.of(reply, self.outer.ring(round), shapes.size)
            maximum = self.outer.max
            if maximum == "adaptive":
                maximum = float(observation.replies[gathering.phase("offer")]["maximum"])
            means[expected.phase] = shapes.unflatten(self.outer.mean(total, maximum, round))
            if own is not None:
                seat = round.clients.index(identity.name(_part(own.private, OUTER)))
                values, random = shapes.flatten(expected.tensors), self.outer.randomness(round, seat)
                total = total.without(self.outer.ring(round).encode(values, maximum, seat, random))
            sent[expected.phase] = shapes.unflatten(self.outer.mean(total, maximum, round))
            expected = _next(half, means[expected.phase])
        return Observation(sent, means, public, round, observation.victim)


def compose(first: Scheme, outer: Scheme) -> Scheme:
    """The scheme `first+outer`.

    Top-K is composed by agreeing on the entries first, which is SSGA: `topk:ratio=0.01+sga` is `ssga:compression=100`.

    Raises:
        GradwireError: where the algebra does not allow it, with the reason.
    """
    if type(outer) is not SGA:
        raise GradwireError(f"{first.name}+{outer.name}: only sga can stand behind a plus")
    if isinstance(first, SGA | Composed):
        raise GradwireError(f"{first.name}+sga: {first.name} is a secure sum already")
    if isinstance(first, TopK):
        if first.ratio is None:
            raise GradwireError("topk+sga: the union needs a ratio, not match_rank: topk:ratio=0.01+sga")
        same = {field.name: getattr(outer, field.name) for field in fields(outer)}
        return SSGA(compression=1 / first.ratio, residual=first.error_feedback, **same)
    return Composed(first, outer)


def _must_be_mean(first: Scheme, send: Send) -> None:
    if not send.mean:
        why = f"in phase {send.phase!r} of {first.name} clients send entries or units of their own, so that no sum of"
        raise GradwireError(f"{first.name}+sga: {why} masked integers is their mean; sga:bits=8 compresses under masks")


def _next(half: ClientHalf[Outcome], reply: Tensors) -> Send | None:
    """What a client half sends next; None at its end."""
    try:
        return half.send(reply)
    except StopIteration:
        return None


def _end(half: Generator[object, Uploads, Outcome]) -> Outcome:
    """What a server half returns."""
    try:
        half.send({})
    except StopIteration as stop:
        return stop.value
    raise GradwireError("a server half waits for a phase that its own clients do not send")


class _Within(LocalStepHook):
    """The first scheme's practice, on its part of a client's state."""

    def __init__(self, step_hook: LocalStepHook):
        self.step_hook = step_hook
        self.per_example = step_hook.per_example

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """See `LocalStepHook`."""
        followed, state = self.step_hook.before_step(gradient, _part(private, INNER), step)
        return followed, _joined(state, _part(private, OUTER))

    def after_step(self, parameters: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """See `LocalStepHook`."""
        left, state = self.step_hook.after_step(parameters, _part(private, INNER), step)
        return left, _joined(state, _part(private, OUTER))


@dataclass(frozen=True)
class _AccountingWithin(Accounting):
    """The first scheme's accounting, on its part of the clients' states."""

    accounting: Accounting

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """See `Accounting`."""
        return self.accounting.notes({party: _part(state, INNER) for party, state in private.items()})

    def guarantee(self, private: Mapping[str, State]) -> tuple[float, float] | None:
        """See `Accounting`."""
        return self.accounting.guarantee({party: _part(state, INNER) for party, state in private.items()})


def _joined(first: State, second: State) -> dict[str, Tensor]:
    return {f"{INNER}{k}": v for k, v in first.items()} | {f"{OUTER}{k}": v for k, v in second.items()}


def _part(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
