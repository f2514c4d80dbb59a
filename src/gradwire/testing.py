"""Checks that every scheme, attack and carrier passes, for those from outside too: call them in a test.

>>> from gradwire.testing import check_attack, check_carrier, check_scheme
>>> check_scheme("terngrad:TernGrad")
>>> check_attack("tag:TAG:iterations=5")
>>> check_carrier("shared_folder:SharedFolder")

What fails is an AssertionError that says what must hold, and what is so instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from gradwire.attacks.inversion import ATTACKING, Guess, InversionAttack, Problem, pose
from gradwire.registry import ATTACKS, CARRIERS
from gradwire.schemes import (
    Layout,
    LocalStep,
    Observation,
    Outcome,
    Round,
    Scheme,
    StackedMeasurement,
    State,
    Update,
    adapted,
    initial_states,
    parameters,
    parse,
)
from gradwire.schemes.gradients import Full
from gradwire.schemes.imitation import imitated, imitates
from gradwire.seeds import drawing
from gradwire.tasks import Pixels
from gradwire.training import capture
from gradwire.wire import SERVER, InProcess, Transcript, Transport, client
from gradwire.wire.transport import drive

ROUNDING = 1e-4
"""Relative error up to which float32 figures count as equal."""
TRIES = 4
"""Rounds that a saved state has to give the aggregate again where chance may lose an entry: in an anonymous union."""
CARRIED = ("none", "topk:ratio=0.2", "powersgd:rank=2", "qsgd", "signsgd", "dgc:ratio=0.2", "sga")
"""The schemes that `check_carrier` runs: of one and of several phases, with equal and with unequal messages."""


def check_scheme(scheme: str | Scheme, clients: int = 3, rounds: int = 2, tolerance: float = ROUNDING) -> None:
    """Run a scheme for some rounds in this process, and check what holds of every scheme.

    Its spec reads back; its halves end together, with one aggregate; bytes are those of the serialised messages;
    decoded updates have the model's layout; its measurement holds for the update that was sent, and its rule, if it has
    one, gives the same; its state is left as it went in, and survives being saved.

    Args:
        scheme: or its spec. Updates are random numbers from a fixed seed.
        tolerance: relative error of the measurement at the true update, for schemes that round further than float32.

    Raises:
        AssertionError: one of these does not hold.
        GradwireError: what the scheme itself refuses.
    """
    chosen = parse(scheme)
    _must(parse(chosen.spec) == chosen, f"{chosen.spec!r} reads back as {parse(chosen.spec)}, not as {chosen}")
    cluster = _Cluster.of(chosen, clients)
    for _ in range(rounds):
        private = {party: _saved(state) for party, state in cluster.private.items()}
        saved = replace(cluster, public=_saved(cluster.public), private=private)
        ended, again, resumed = (each.run(InProcess()) for each in (cluster, cluster, saved))
        _check_round(cluster, ended, tolerance)
        what = f"{chosen.spec}: from a state that was saved and loaded"
        secure = chosen.sums_only  # masks are drawn from the operating system, too
        _must(secure or ended.sent == again.sent, f"{chosen.spec}: from the same state, other messages are sent")
        _must(secure or ended.sent == resumed.sent, f"{what}, other messages are sent")
        if secure and _differs(again.served.aggregate, ended.served.aggregate) is None:
            for _ in range(TRIES):
                if _differs(resumed.served.aggregate, ended.served.aggregate) is not None:
                    resumed = saved.run(InProcess())
            _close(f"{what}, the aggregate", resumed.served.aggregate, ended.served.aggregate)
        cluster = cluster.after(ended)


def check_attack(attack: str | InversionAttack, problems: Sequence[Problem] = ()) -> None:
    """Attack two small problems, and check what holds of every inversion attack.

    Its spec reads back; inputs have the views' shape and lie within their domain; the seed decides; the truth of the
    default problems, which is wiped after they are posed, does not reach it; it tells how far it is, to the end; a
    finished checkpoint gives the same answer again.

    Args:
        attack: or its spec, best with few iterations.
        problems: to attack; by default two images each of random pixels, whose gradients were sent by Top-K.

    Raises:
        AssertionError: one of these does not hold.
        GradwireError: what the attack itself refuses.
    """
    chosen: InversionAttack = ATTACKS.parse(attack)
    spec = ATTACKS.spec(chosen)
    _must(ATTACKS.parse(spec) == chosen, f"{spec!r} reads back as {ATTACKS.parse(spec)}, not as {chosen}")
    truth = [_batch(victim) for victim in range(2)]
    views = [capture(_network(), *batch, "topk:ratio=0.5") for batch in truth]
    posed = problems or [pose(view, "adaptive", salt) for salt, view in enumerate(views)]
    told: list[tuple[str, int, int]] = []
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "attack"
        guess = chosen.run(posed, 0, "cpu", lambda *step: told.append(step), kept)
        resumed = chosen.run(posed, 0, "cpu", checkpoint=kept)
    _check_guess(guess, posed, spec)
    _must(torch.equal(guess.inputs, resumed.inputs), f"{spec}: from a finished checkpoint, the answer is another one")
    for images, labels in truth:
        images.zero_()
        labels.zero_()
    again = chosen.run(problems or [pose(view, "adaptive", salt) for salt, view in enumerate(views)], 0, "cpu")
    _must(torch.equal(guess.inputs, again.inputs), f"{spec}: the same seed gives other images, or the truth reached it")
    ends = [(done, total) for stage, done, total in told if stage == ATTACKING]
    _must(bool(ends) and ends[-1][0] == ends[-1][1], f"{spec}: progress ends at {ends[-1:]}; it must reach the total")


def check_carrier(carrier: str | Callable[[], Transport], schemes: Sequence[str | Scheme] = CARRIED) -> None:
    """Run a round of several schemes over a carrier, and check that it gives what the one in this process gives.

    Args:
        carrier: its spec, or what makes a fresh one; all clients and the server live in it.

    Raises:
        AssertionError: aggregates, states or counted bytes differ.
    """
    for scheme in schemes:
        cluster = _Cluster.of(parse(scheme), 3)
        fresh: Transport = CARRIERS.parse(carrier) if isinstance(carrier, str) else carrier()
        ours, theirs = cluster.run(fresh), cluster.run(InProcess())
        what = f"{cluster.scheme.spec} over {type(fresh).__name__}"
        _must(ours.outcomes.keys() == theirs.outcomes.keys(), f"{what}: {sorted(ours.outcomes)} came to an end")
        for party, outcome in ours.outcomes.items():
            expected = theirs.outcomes[party]
            _close(f"{what}: the aggregate of {party}", outcome.aggregate, expected.aggregate)
            if theirs.sent == cluster.run(InProcess()).sent:
                _close(f"{what}: the private state of {party}", outcome.private, expected.private)
            _close(f"{what}: the public state of {party}", outcome.public, expected.public)
            counted = [ended.transcript.bytes_up(party) for ended in (ours, theirs)]
            _must(counted[0] == counted[1], f"{what}: {party} sent {counted[0]} bytes; it must be {counted[1]}")


@dataclass(frozen=True)
class _Finished:
    """What came of a round."""

    updates: Mapping[str, Update]
    outcomes: Mapping[str, Outcome]
    served: Outcome
    transcript: Transcript

    @property
    def sent(self) -> list[bytes]:
        """The messages, serialised, in an order that does not depend on the carrier."""
        return sorted(message.frozen() for message in self.transcript.messages())


@dataclass(frozen=True)
class _Cluster:
    """Clients with random updates, before a round."""

    scheme: Scheme
    start: Update
    public: State
    private: Mapping[str, State]
    round: int = 0

    @classmethod
    def of(cls, scheme: Scheme, clients: int) -> "_Cluster":
        start = parameters(adapted(scheme, _network(), 0))
        layout = Layout.of(start)
        private = initial_states(scheme, layout, tuple(map(client, range(clients))), 0)
        return cls(scheme, start, scheme.public_state(layout), private)

    @property
    def context(self) -> Round:
        return Round(self.round, tuple(self.private), 0, Layout.of(self.start), start=self.start)

    def run(self, carrier: Transport) -> _Finished:
        """One round over a carrier; states must be left as they are."""
        before = {party: _copy(state) for party, state in (("public", self.public), *self.private.items())}
        random = torch.Generator().manual_seed(self.round)
        updates, halves = {}, {}
        for party in self.private:
            gradient = {name: 0.1 * torch.randn(p.shape, generator=random) for name, p in self.start.items()}
            updates[party], private = self._trained(gradient, self.private[party])
            halves[party] = self.scheme.client(_copy(updates[party]), private, self.public, self.context)
        outcomes, served = drive(carrier, halves, self.scheme.server(self.public, self.context), self.round)
        for party, state in before.items():
            now = self.public if party == "public" else self.private[party]
            same = state.keys() == now.keys() and all(torch.equal(state[name], now[name]) for name in state)
            _must(same, f"{self.scheme.spec}: a round changed the state of {party} that it was given; return a new one")
        assert served is not None
        return _Finished(updates, outcomes, served, carrier.transcript)

    def _trained(self, gradient: Update, private: State) -> tuple[Update, State]:
        """What one local step along a gradient changes, and the client's state, under the scheme's hook if any."""
        hook = self.scheme.step_hook
        if hook is None:
            return gradient, private
        step = LocalStep(self.context, index=0, steps=1, batch=1, examples=1, epoch=self.round)
        each = {name: g[None] for name, g in gradient.items()} if hook.per_example else gradient
        followed, private = hook.before_step(each, private, step)
        left, private = hook.after_step({name: p - followed[name] for name, p in self.start.items()}, private, step)
        return {name: p - left[name] for name, p in self.start.items()}, private

    def after(self, ended: _Finished) -> "_Cluster":
        private = {party: outcome.private for party, outcome in ended.outcomes.items()}
        return replace(self, public=ended.served.public, private=private, round=self.round + 1)


def _check_round(cluster: _Cluster, ended: _Finished, tolerance: float) -> None:
    scheme, layout, what = cluster.scheme, cluster.context.layout, cluster.scheme.spec
    _must(ended.outcomes.keys() == cluster.private.keys(), f"{what}: only {sorted(ended.outcomes)} came to an end")
    _has_layout(f"{what}: the aggregate", ended.served.aggregate, layout)
    messages = list(ended.transcript.messages())
    for party, outcome in ended.outcomes.items():
        _close(f"{what}: the aggregate of {party}", outcome.aggregate, ended.served.aggregate)
        sent = sum(len(message.encode()) for message in messages if message.sender == party)
        counted = ended.transcript.bytes_up(party)
        _must(counted == sent, f"{what}: {counted} bytes were counted of {party}, whose messages have {sent}")
    victim = client(0)
    uploads, replies = ({m.phase: m.tensors for m in messages if m.sender == party} for party in (victim, SERVER))
    seen = Observation(uploads, replies, cluster.public, cluster.context)
    _has_layout(f"{what}: the decoded update", scheme.decode(seen), layout)
    measurement = scheme.measure(seen)
    strange = sorted(measurement.keys() - layout.shapes.keys())
    _must(not strange, f"{what}: the measurement is of {strange}; the model has {', '.join(layout.shapes)}")
    if cluster.round == 0 and scheme.step_hook is None and imitates(scheme):
        _check_rule(seen, scheme, ended.updates, victim)
    # Later rounds send residuals too, a step hook changes what is sent, and noise comes between.
    if cluster.round == 0 and scheme.step_hook is None and not scheme.deviation(cluster.context):
        # What the server sees is the victim's update, or the mean where it sees sums alone.
        senders = list(ended.updates) if scheme.sums_only else [victim]
        update = {
            name: torch.stack([ended.updates[party][name] for party in senders]).mean(0) for name in layout.shapes
        }
        _check_measurement(what, measurement, update, tolerance)


def _check_rule(seen: Observation, scheme: Scheme, updates: Mapping[str, Update], victim: str) -> None:
    """The scheme's rule gives what was measured of a first round; where it draws random numbers, terms of that form."""
    means = {name: torch.stack([update[name] for update in updates.values()]).mean(0)[None] for name in updates[victim]}
    own = {name: tensor[None] for name, tensor in updates[victim].items()}
    draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    measured = scheme.measure(seen)
    found, again = (imitated(scheme, own, means, seen.public, seen.round, random) for random in draws)
    what = f"{scheme.spec}: what `imitate` gives"
    _must(found is not None, f"{what} is None; a class that has a rule must give a measurement")
    assert found is not None
    assert again is not None
    forms = [{n: [type(t) for t in terms] for n, terms in each.items()} for each in (found, measured)]
    _must(forms[0] == forms[1], f"{what} has terms {forms[0]}; it must have {forms[1]}")
    probe = {name: Full(torch.randn(t.shape, generator=torch.Generator().manual_seed(2))) for name, t in own.items()}
    stacks = [StackedMeasurement.of([each], torch.zeros(1)) for each in (found, again, measured)]
    ours, second, due = (torch.cat([*stack.moments(probe), stack.energy]) for stack in stacks)
    if torch.equal(ours, second):
        size = float(due.abs().max())
        off = float((ours - due).abs().max())
        _must(
            off <= ROUNDING * size, f"{what} is off by {off:g} in {size:g} from what a round of the same updates gives"
        )


def _check_measurement(what: str, measurement: Mapping[str, Any], update: Update, tolerance: float) -> None:
    """A(G) = y, or for what was sent as less than values: G is among what it allows."""
    values: dict[str, list[Any]] = {}
    for name, terms in measurement.items():
        for term in terms:
            broken = term.violation(_one(update[name]))
            if broken is None:
                values.setdefault(name, []).append(term)
            elif float(broken) > ROUNDING:
                _must(False, f"{what}: the true update breaks the measurement of {name} by {float(broken):g}")
    stack = StackedMeasurement.of([values], torch.zeros(1))
    off = float(stack.distance({name: _one(tensor) for name, tensor in update.items()}).sqrt())
    size = float(stack.energy.sqrt())
    wrong = f"A(G) is off by {off:g} from what was sent, of norm {size:g}, for the true G"
    _must(off <= ROUNDING * size, f"{what}: {wrong}")


def _check_guess(guess: Guess, problems: Sequence[Problem], spec: str) -> None:
    shape = (len(problems), *problems[0].view.shape)
    domain, due = problems[0].view.task.domain, (len(problems), *problems[0].targets.shape)
    what, found = domain.what, tuple(guess.inputs.shape)
    _must(found == shape, f"{spec}: {what} have shape {found}; it must be {shape}")
    low, high = float(guess.inputs.min()), float(guess.inputs.max())
    within = "[0, 1]" if isinstance(domain, Pixels) else "their domain"
    inside = torch.allclose(domain.snapped(guess.inputs), guess.inputs)
    _must(inside, f"{spec}: {what} lie in [{low:g}, {high:g}]; they must lie in {within}")
    targets = tuple(guess.targets.shape)
    _must(targets == due, f"{spec}: targets have shape {targets}; it must be {due}")
    _must(guess.objective.shape == shape[:1], f"{spec}: it must give an objective for each of {shape[0]} problems")


def _network() -> nn.Module:
    with drawing(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Sigmoid(), nn.Linear(12, 10))


def _batch(victim: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(victim)
    return torch.rand(2, 1, 8, 8, generator=random), torch.randint(10, (2,), generator=random)


def _one(tensor: Tensor) -> Full:
    return Full(tensor[None])


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def _saved(state: State) -> dict[str, Tensor]:
    """A state as a file gives it back."""
    return load(save({name: tensor.contiguous() for name, tensor in state.items()}))


def _has_layout(what: str, update: Update, layout: Layout) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in update.items()}
    expected = {name: tuple(shape) for name, shape in layout.shapes.items()}
    _must(found == expected, f"{what} has {found}; the model's layout is {expected}")


def _close(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    _must(found.keys() == expected.keys(), f"{what} has {sorted(found)}; it must have {sorted(expected)}")
    name = _differs(found, expected)
    _must(name is None, f"{what}: {name} is another one")


def _differs(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first tensor that is not the same to rounding."""
    for name, tensor in expected.items():
        ours, theirs = found[name].double(), tensor.double()
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=ROUNDING, atol=1e-6, equal_nan=True):
            return name
    return None


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


__all__ = ["check_attack", "check_carrier", "check_scheme"]
