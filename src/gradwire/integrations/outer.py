"""An outer step for local SGD and DiLoCo: workers train alone, and now and then send what that changed.

A. Douillard et al., "DiLoCo: Distributed low-communication training of language models", 2023, algorithm 1: every H
steps Δ ← mean of (θ − θ_i), and θ ← OuterOpt(θ, Δ), by Nesterov momentum. With learning rate 1 and no momentum this is
local SGD (S. U. Stich, ICLR 2019). What a scheme leaves unsent of a difference is added to the next one: late, so that
momentum outside overshoots. Where a scheme sends a small share, learning rate 1 without momentum is better, and better
still with `local_residual`: a worker's own model then keeps what was not sent, and `finish` ends with the mean of all.

In fragments it is the first part of A. Douillard et al., "Streaming DiLoCo with overlapping communication", 2025: each
part of the parameters has its own round every H steps, one part after another, so that less is sent at a time. The
second part, sending beside the next local steps, is not done; the third, few bits, is a scheme's affair.

>>> outer = gradwire.outer_step(model, "topk:ratio=0.05", every=500)
>>> for batch in loader:
...     optimizer.zero_grad(); loss(batch).backward(); optimizer.step()
...     outer.step()

Members may come and go: after a round, those of another group call `outer.regroup(group)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradwire import seeds
from gradwire.errors import GradwireError, at_least
from gradwire.integrations.wrapped import check_whole, plain_name, unwrapped
from gradwire.rounds import RoundResult, run_round
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, adapted, parse
from gradwire.schemes.halves import joined, under
from gradwire.wire import Collective, Need, Transcript, check_carrier
from gradwire.wire.rendezvous import agree

OFFERS = frozenset({Need.LOCAL_UPDATE, Need.EQUAL_WEIGHTS, Need.OWN_NETWORK})
"""What a scheme may need and finds here: it sees what local steps changed, and no server."""
COUNTERS = ("steps", "rounds", "bytes_up", "bytes_down")


@dataclass
class Fragment:
    """A part of the parameters, sent together at steps that leave `offset` when divided by H; the scheme's state."""

    layout: Layout
    offset: int
    public: State
    private: State


class OuterStep:
    """Parameters that all workers have in common every so many steps.

    Attributes:
        fragments: one, or several that are sent at different steps.
        steps: local ones so far, and `rounds`, outer ones.
        bytes_up: sent by this process so far; `bytes_down`, received.
    """

    def __init__(
        self,
        model: nn.Module,
        scheme: Scheme,
        every: int,
        lr: float = 0.7,
        momentum: float = 0.9,
        seed: int = 0,
        group: dist.ProcessGroup | None = None,
        fragments: int = 1,
        local_residual: bool = False,
    ):
        self.local_residual = local_residual
        self.scheme, self.every, self.lr, self.momentum, self.seed = scheme, every, lr, momentum, seed
        named = unwrapped(model).named_parameters()
        self.parameters = {plain_name(name): p for name, p in named if p.requires_grad}
        self.layout = Layout.of({name: p.detach() for name, p in self.parameters.items()})
        settings = {"every": every, "lr": lr, "momentum": momentum, "seed": seed, "fragments": fragments}
        settings["local_residual"] = local_residual
        shapes = {name: list(p.shape) for name, p in self.parameters.items()}
        self._facts = {"scheme": scheme.spec, **settings, "parameters": shapes}
        self.anchor = {name: p.detach().cpu().clone() for name, p in self.parameters.items()}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        names = list(self.layout.shapes)
        # Of consecutive parameters, with about as many entries each.
        place = {
            name: min(fragments - 1, fragments * at // self.layout.size) for name, at in self.layout.offsets.items()
        }
        self.fragments = []
        for number in range(fragments):
            part = self.layout.part([name for name in names if place[name] == number])
            self.fragments.append(Fragment(part, number * every // fragments, scheme.public_state(part), {}))
        self.steps = self.rounds = self.bytes_up = self.bytes_down = 0
        self.regroup(group)
        if not self.rounds:
            self._hold_nothing()

    def regroup(self, group: dist.ProcessGroup | None = None) -> None:
        """Go on with the members of another group; all of them call this, newcomers by making their outer step.

        Whoever has not done all the rounds and steps that others have takes over the parameters, the momentum and the
        scheme's public state that these have in common, and holds nothing back. Members that are gone take with them
        what they held back.

        Args:
            group: the members from now on; None: all processes.

        Raises:
            GradwireError: members whose settings differ.
        """
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
        """Count a local step; run the rounds that are due after it. Whether any was."""
        self.steps += 1
        due = [part for part in self.fragments if part.layout.shapes and self.steps % self.every == part.offset]
        for part in due:
            self._round(part)
        return bool(due)

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
        secret = seeds.number("private", self.seed, self.transport.party, *([self.rounds] if self.rounds else []))
        for number, part in enumerate(self.fragments):
            part.private = self.scheme.private_state(part.layout, secret + number)

    def finish(self) -> None:
        """Give all workers the mean of their parameters and of what they hold back, sent whole, as a training ends."""
        for part in self.fragments:
            held, update = self.scheme.kept_back(part.private, part.layout), self._changed(part)
            whole = {name: each + held[name] if name in held else each for name, each in update.items()}
            mean = self._exchange(parse("none"), part, whole, {}, {}).aggregate
            for name, anchor in self._anchor(part).items():
                anchor.sub_(mean[name])
        self._hold_nothing()
        for part in self.fragments:
            self._begin(part)

    def _round(self, part: Fragment) -> None:
        result = self._exchange(self.scheme, part, self._changed(part), part.private, part.public)
        part.public, part.private = result.public, result.private[self.transport.party]
        self.rounds += 1
        self._apply(result.aggregate)
        self._begin(part)

    def _exchange(
        self, scheme: Scheme, part: Fragment, update: dict[str, Tensor], private: State, public: State
    ) -> RoundResult:
        """One round of a fragment, and what it cost."""
        self.transport.transcript = transcript = Transcript(keep=0)
        party, parties = self.transport.party, self.transport.parties
        round = Round(self.rounds, parties, self.seed, part.layout, start=self._anchor(part))
        result = run_round(scheme, {party: Contribution(update, private)}, public, round, self.transport)
        self.bytes_up += transcript.bytes_up(party)
        self.bytes_down += transcript.bytes_down(party)
        return result

    def _anchor(self, part: Fragment) -> dict[str, Tensor]:
        return {name: self.anchor[name] for name in part.layout.shapes}

    def _start(self, part: Fragment) -> dict[str, Tensor]:
        """Where this worker's local steps begin: at the common parameters, or at these and what it has not sent."""
        held = self.scheme.kept_back(part.private, part.layout) if self.local_residual else {}
        return {name: each - held[name] if name in held else each for name, each in self._anchor(part).items()}

    def _changed(self, part: Fragment) -> dict[str, Tensor]:
        """What local steps have changed since they began."""
        return {name: each - self.parameters[name].detach().cpu() for name, each in self._start(part).items()}

    @torch.no_grad()
    def _begin(self, part: Fragment) -> None:
        for name, each in self._start(part).items():
            self.parameters[name].copy_(each)

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker."""
        return {
            "scheme": self.scheme.spec,
            "party": self.transport.party,
            "workers": len(self.transport.parties),
            **{name: getattr(self, name) for name in COUNTERS},
            "anchor": dict(self.anchor),
            "velocity": dict(self.velocity),
            "public": joined({number: part.public for number, part in enumerate(self.fragments)}),
            "private": joined({number: part.private for number, part in enumerate(self.fragments)}),
            "fragments": len(self.fragments),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in this rank.

        Raises:
            GradwireError: the state is of another scheme, rank, number of workers or model.
        """
        here = self.state_dict()
        for name in ("scheme", "party", "workers", "fragments"):
            if state.get(name) != here[name]:
                raise GradwireError(f"state has {name}={state.get(name)!r}; this outer step has {name}={here[name]!r}")
        if odd := set(state["anchor"]) ^ set(self.anchor):
            raise GradwireError(f"state is of another model: only one of the two has a parameter {min(odd)!r}")
        for name in (*COUNTERS, "anchor", "velocity"):
            setattr(self, name, state[name])
        for number, part in enumerate(self.fragments):
            part.public, part.private = under(state["public"], number), under(state["private"], number)

    @torch.no_grad()
    def _apply(self, difference: Mapping[str, Tensor]) -> None:
        """Nesterov: v ← m·v + Δ; θ ← θ − lr·(Δ + m·v)."""
        for name, change in difference.items():
            anchor, velocity = self.anchor[name], self.velocity[name].mul_(self.momentum).add_(change)
            anchor.sub_(change + self.momentum * velocity, alpha=self.lr)


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

    Raises:
        GradwireError: a scheme that needs what this does not offer, workers that differ, a number out of range.
    """
    chosen = parse(scheme)
    check_carrier(chosen.spec, chosen.needs, "an outer step", OFFERS)
    check_whole(unwrapped(model))
    at_least(1, every=every, fragments=fragments)
    if fragments > every:
        raise GradwireError(f"fragments is {fragments}; there must be no more of them than steps, every={every}")
    if not lr > 0 or not 0 <= momentum < 1:
        raise GradwireError(f"lr is {lr} and momentum {momentum}; the one must be positive, the other in [0, 1)")
    if adapted(chosen, unwrapped(model), seed) is not unwrapped(model):
        raise GradwireError(f"{chosen.spec} is for another network than the one it was given")
    return OuterStep(model, chosen, every, lr, momentum, seed, group, fragments, local_residual)
