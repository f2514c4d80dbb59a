"""An outer step for local SGD and DiLoCo: workers train alone, and now and then send what that changed.

A. Douillard et al., "DiLoCo: Distributed low-communication training of language models", 2023, algorithm 1: every H
steps Δ ← mean of (θ − θ_i), and θ ← OuterOpt(θ, Δ), by Nesterov momentum. With learning rate 1 and no momentum this is
local SGD (S. U. Stich, ICLR 2019). What a scheme leaves unsent of a difference is added to the next one: late, so that
momentum outside overshoots. Where a scheme sends a small share, learning rate 1 without momentum is better, and better
still with `local_residual`: a worker's own model then keeps what was not sent, and `finish` ends with the mean of all.

A. Douillard et al., "Streaming DiLoCo with overlapping communication", 2025, has three parts. In fragments, each part
of the parameters has its own round every H steps, one after another, so that less is sent at a time. With `overlap`
(its algorithm 2) a round runs beside the next τ local steps, in a thread, and what it brings is applied after the last
of these: θ_i ← α·θ_i + (1 − α)·θ. Whether the thread is fast or slow changes no result. What a scheme has left unsent
is taken out of θ_i there, for the next message has it already. The third part, few bits, is a scheme's affair.

>>> outer = gradwire.outer_step(model, "topk:ratio=0.05", every=500)
>>> for batch in loader:
...     optimizer.zero_grad(); loss(batch).backward(); optimizer.step()
...     outer.step()

Members may come and go: after a round, those of another group call `outer.regroup(group)`.
"""

from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradwire import seeds
from gradwire.errors import GradwireError, WireError
from gradwire.integrations.beside import Beside, group_beside
from gradwire.integrations.fragments import Brought, Flight, Fragment, at_once, brought, fragments_of
from gradwire.integrations.outer_settings import OuterSettings
from gradwire.integrations.wrapped import check_whole, plain_name, unwrapped
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, Update, adapted, parse
from gradwire.schemes.halves import joined, under
from gradwire.wire import Collective, Need, Transcript, check_carrier
from gradwire.wire.rendezvous import agree

OFFERS = frozenset({Need.LOCAL_UPDATE, Need.EQUAL_WEIGHTS, Need.OWN_NETWORK})
"""What a scheme may need and finds here: it sees what local steps changed, and no server."""
COUNTERS = ("steps", "rounds", "bytes_up", "bytes_down")


class OuterStep:
    """Parameters that all workers have in common every so many steps.

    Attributes:
        fragments: one, or several that are sent at different steps.
        steps: local ones so far, and `rounds`, outer ones that have been applied.
        bytes_up: sent by this process so far; `bytes_down`, received.
    """

    def __init__(
        self,
        model: nn.Module,
        scheme: Scheme,
        settings: OuterSettings,
        group: dist.ProcessGroup | None,
    ):
        self.scheme, self.settings = scheme, settings
        named = unwrapped(model).named_parameters()
        self.parameters = {plain_name(name): p for name, p in named if p.requires_grad}
        self.layout = Layout.of({name: p.detach() for name, p in self.parameters.items()})
        shapes = {name: list(p.shape) for name, p in self.parameters.items()}
        self._facts = {"scheme": scheme.spec, **asdict(settings), "parameters": shapes}
        self.anchor = {name: p.detach().cpu().clone() for name, p in self.parameters.items()}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        self.fragments = fragments_of(self.layout, settings.fragments, settings.every, scheme)
        self._flights: list[Flight] = []
        self.steps = self.rounds = self.bytes_up = self.bytes_down = 0
        self.regroup(group)
        if not self.rounds:
            self._hold_nothing()

    def regroup(self, group: dist.ProcessGroup | None = None) -> None:
        """Go on with the members of another group; all of them call this, newcomers by making their outer step.

        What is on its way is applied first, but for rounds that have failed. Whoever has not done all the rounds and
        steps that others have takes over the parameters, the momentum and the scheme's public state that these have in
        common, and holds nothing back. Members that are gone take with them what they held back.

        Args:
            group: the members from now on; None: all processes. With overlap, nothing else may use it: None then makes
                a group of gloo's own.

        Raises:
            GradwireError: members whose settings differ.
        """
        while self._flights:
            with suppress(WireError):
                self._land(self._flights[0])
        self._beside = Beside()
        if self.settings.overlap and group in (None, dist.group.WORLD):
            group = group_beside(None, "the outer step's start", backend="gloo")
        self.transport = Collective(Transcript(keep=0), group)
        agree(self.transport, self._facts)
        own, counts = self.transport.party, {"counts": torch.tensor([self.rounds, self.steps])}
        told = {party: each["counts"].tolist() for party, each in self.transport.share({own: counts}).items()}
        furthest = max(told, key=told.__getitem__)
        if any(each != told[furthest] for each in told.values()):
            parts = {number: part.public for number, part in enumerate(self.fragments)}
            mine = joined({"anchor": self.anchor, "velocity": self.velocity}) | joined(parts)
            common = self.transport.share({own: mine if own == furthest else {}})[furthest]
            if told[own] != told[furthest]:
                self._follow(common, *told[furthest])

    def step(self) -> bool:
        """Count a local step; begin the rounds that are due after it. Whether it changed parameters, as a round's end.

        Raises:
            WireError: a process is gone; with overlap, at the step that is due to apply the round.
        """
        self.steps += 1
        for number, part in enumerate(self.fragments):
            if part.layout.shapes and self.steps % self.settings.every == part.offset:
                self._send(number)
        ending = [flight for flight in self._flights if flight.due == self.steps]
        for flight in ending:
            self._land(flight)
        return bool(ending)

    def settle(self) -> None:
        """Wait for what is on its way, and apply it now. A worker that leaves the others does this before."""
        while self._flights:
            self._land(self._flights[0])

    @torch.no_grad()
    def _follow(self, common: Mapping[str, Tensor], rounds: int, steps: int) -> None:
        """Take over what the others have in common."""
        self.rounds, self.steps = rounds, steps
        for name, parameter in self.parameters.items():
            self.anchor[name].copy_(common[f"anchor/{name}"])
            self.velocity[name].copy_(common[f"velocity/{name}"])
            parameter.copy_(self.anchor[name])
        for number, part in enumerate(self.fragments):
            part.public = under(common, number)
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        # Never the secret of another member, who may have had this place in an earlier group.
        later = [self.rounds] if self.rounds else []
        secret = seeds.number("private", self.settings.seed, self.transport.party, *later)
        for number, part in enumerate(self.fragments):
            part.private = self.scheme.private_state(part.layout, secret + number)

    def finish(self) -> None:
        """Give all workers the mean of their parameters and of what they hold back, sent whole, as a training ends.

        What is on its way is applied first. A process group may be destroyed after this, and with overlap not before.
        """
        self.settle()
        for part in self.fragments:
            held, update = self.scheme.kept_back(part.private, part.layout), self._changed(part)
            whole = {name: each + held[name] if name in held else each for name, each in update.items()}
            end = self._exchange(parse("none"), part, whole, {}, {}, self.rounds)
            self._count(end)
            for name, anchor in self._anchor(part).items():
                anchor.sub_(end.aggregate[name])
        self._hold_nothing()
        for part in self.fragments:
            self._begin(part)

    def _send(self, number: int) -> None:
        """Begin a fragment's round."""
        part, overlap, index = self.fragments[number], self.settings.overlap, self.rounds + len(self._flights)
        work = partial(self._exchange, self.scheme, part, self._changed(part), part.private, part.public, index)
        self._flights.append(Flight(number, self.steps + overlap, (self._beside.run if overlap else at_once)(work)))

    def _land(self, flight: Flight) -> None:
        """Wait for a round, and apply what it brings."""
        self._flights.remove(flight)
        brings, part = flight.answer.result(), self.fragments[flight.fragment]
        before = self.scheme.kept_back(part.private, part.layout)
        part.public, part.private = brings.public, brings.private
        self.rounds += 1
        self._count(brings)
        self._apply(brings.aggregate)
        if self.settings.overlap:
            self._mix(part, before)
        else:
            self._begin(part)

    def _exchange(
        self, scheme: Scheme, part: Fragment, update: Update, private: State, public: State, index: int
    ) -> Brought:
        """One round of a fragment."""
        round = Round(index, self.transport.parties, self.settings.seed, part.layout, start=self._anchor(part))
        return brought(scheme, Contribution(update, private), public, round, self.transport)

    def _count(self, brings: Brought) -> None:
        self.bytes_up += brings.bytes_up
        self.bytes_down += brings.bytes_down

    def _anchor(self, part: Fragment) -> dict[str, Tensor]:
        return {name: self.anchor[name] for name in part.layout.shapes}

    def _start(self, part: Fragment) -> dict[str, Tensor]:
        """Where this worker's local steps begin: at the common parameters, or at these and what it has not sent."""
        held = self.scheme.kept_back(part.private, part.layout) if self.settings.local_residual else {}
        return {name: each - held[name] if name in held else each for name, each in self._anchor(part).items()}

    def _changed(self, part: Fragment) -> dict[str, Tensor]:
        """What local steps have changed since they began."""
        return {name: each - self.parameters[name].detach().cpu() for name, each in self._start(part).items()}

    @torch.no_grad()
    def _begin(self, part: Fragment) -> None:
        for name, each in self._start(part).items():
            self.parameters[name].copy_(each)

    @torch.no_grad()
    def _mix(self, part: Fragment, before: Update) -> None:
        """θ_i ← α·θ_i + (1 − α)·θ, where θ_i is without what this round has left unsent of it: h_after − h_before."""
        after = self.scheme.kept_back(part.private, part.layout)
        for name, common in self._anchor(part).items():
            own = self.parameters[name].detach().cpu()
            if name in after:
                own = own + (after[name] - before.get(name, 0))
            self.parameters[name].copy_(torch.lerp(common, own, self.settings.own_share))

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker.

        Rounds on their way are waited for and saved with the steps that are due to apply them.
        """
        return {
            "scheme": self.scheme.spec,
            "overlap": self.settings.overlap,
            "party": self.transport.party,
            "workers": len(self.transport.parties),
            **{name: getattr(self, name) for name in COUNTERS},
            "anchor": dict(self.anchor),
            "velocity": dict(self.velocity),
            "public": joined({number: part.public for number, part in enumerate(self.fragments)}),
            "private": joined({number: part.private for number, part in enumerate(self.fragments)}),
            "fragments": len(self.fragments),
            "flights": [flight.state_dict() for flight in self._flights],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in this rank.

        Raises:
            GradwireError: the state is of another scheme, rank, number of workers or model.
        """
        here = self._facts | {"party": self.transport.party, "workers": len(self.transport.parties)}
        for name in ("scheme", "party", "workers", "fragments", "overlap"):
            if state.get(name) != here[name]:
                raise GradwireError(f"state has {name}={state.get(name)!r}; this outer step has {name}={here[name]!r}")
        if odd := set(state["anchor"]) ^ set(self.anchor):
            raise GradwireError(f"state is of another model: only one of the two has a parameter {min(odd)!r}")
        wait([flight.answer for flight in self._flights])
        self._flights = [Flight.restored(flight) for flight in state["flights"]]
        for name in (*COUNTERS, "anchor", "velocity"):
            setattr(self, name, state[name])
        for number, part in enumerate(self.fragments):
            part.public, part.private = under(state["public"], number), under(state["private"], number)

    @torch.no_grad()
    def _apply(self, difference: Mapping[str, Tensor]) -> None:
        """Nesterov: v ← m·v + Δ; θ ← θ − lr·(Δ + m·v)."""
        for name, change in difference.items():
            anchor, velocity = self.anchor[name], self.velocity[name].mul_(self.settings.momentum).add_(change)
            anchor.sub_(change + self.settings.momentum * velocity, alpha=self.settings.lr)


def outer_step(
    model: nn.Module,
    scheme: str | Scheme,
    every: int = 500,
    lr: float = 0.7,
    momentum: float = 0.9,
    seed: int = 0,
    group: dist.ProcessGroup | None = None,
    fragments: int = 1,
    local_residual: bool = False,
    overlap: int = 0,
    mixing: float | None = None,
) -> OuterStep:
    """What `step` after each of the inner optimiser's steps makes DiLoCo of a training without DDP.

    Args:
        model: alike in every worker at the beginning.
        scheme: of the differences of parameters, such as "topk:ratio=0.05" or "qsgd:bits=4".
        every: local steps from one round to the next.
        lr: of the outer optimiser, and its Nesterov `momentum`; 1 and 0 average the parameters.
        seed: of the scheme's public randomness, the same in every worker.
        fragments: parts of the parameters that are sent one after another within these steps.
        local_residual: whether what a scheme leaves unsent stays in a worker's own model, which goes on training with
            it, so that nothing that is sent late meets a model without it. Workers' models then differ until `finish`.
        overlap: local steps that a round may take, which go on beside it: τ. Training ends by `finish`.
        mixing: with overlap, the share of a worker's own model in what it goes on with: α, 0.5 if None.

    Raises:
        GradwireError: a scheme that needs what this does not offer, workers that differ, a number out of range.
    """
    chosen = parse(scheme)
    check_carrier(chosen.spec, chosen.needs, "an outer step", OFFERS)
    check_whole(unwrapped(model))
    settings = OuterSettings(every, lr, momentum, seed, fragments, local_residual, overlap, mixing)
    if adapted(chosen, unwrapped(model), seed) is not unwrapped(model):
        raise GradwireError(f"{chosen.spec} is for another network than the one it was given")
    return OuterStep(model, chosen, settings, group)
