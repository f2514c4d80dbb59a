"""An outer step for local SGD and DiLoCo: workers train alone, and now and then send what that changed.

A. Douillard et al., "DiLoCo: Distributed low-communication training of language models", 2023, algorithm 1: every H
steps Δ ← mean of (θ − θ_i), and θ ← OuterOpt(θ, Δ), by Nesterov momentum. With learning rate 1 and no momentum this is
local SGD (S. U. Stich, ICLR 2019). What a scheme leaves unsent of a difference is added to the next one.

>>> outer = gradwire.outer_step(model, "topk:ratio=0.05", every=500)
>>> for batch in loader:
...     optimizer.zero_grad(); loss(batch).backward(); optimizer.step()
...     outer.step()
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradwire import seeds
from gradwire.errors import GradwireError, at_least
from gradwire.integrations.wrapped import plain_name, unwrapped
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, adapted, parse
from gradwire.wire import Collective, Need, Transcript, check_carrier
from gradwire.wire.rendezvous import agree

OFFERS = frozenset({Need.LOCAL_UPDATE, Need.EQUAL_WEIGHTS, Need.OWN_NETWORK})
"""What a scheme may need and finds here: it sees what local steps changed, and no server."""
KINDS = ("anchor", "velocity", "public", "private")
COUNTERS = ("steps", "rounds", "bytes_up", "bytes_down")


class OuterStep:
    """Parameters that all workers have in common every so many steps.

    Attributes:
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
    ):
        self.scheme, self.every, self.lr, self.momentum, self.seed = scheme, every, lr, momentum, seed
        named = unwrapped(model).named_parameters()
        self.parameters = {plain_name(name): p for name, p in named if p.requires_grad}
        self.transport = Collective(Transcript(keep=0), group)
        self.layout = Layout.of({name: p.detach() for name, p in self.parameters.items()})
        settings = {"every": every, "lr": lr, "momentum": momentum, "seed": seed}
        shapes = {name: list(p.shape) for name, p in self.parameters.items()}
        agree(self.transport, {"scheme": scheme.spec, **settings, "parameters": shapes})
        self.anchor = {name: p.detach().cpu().clone() for name, p in self.parameters.items()}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        self.public: State = scheme.public_state(self.layout)
        secret = seeds.number("private", seed, self.transport.party)
        self.private: State = scheme.private_state(self.layout, secret)
        self.steps = self.rounds = self.bytes_up = self.bytes_down = 0

    def step(self) -> bool:
        """Count a local step; after every `every` of them, run a round. Whether one was run."""
        self.steps += 1
        if self.steps % self.every:
            return False
        update = {name: self.anchor[name] - p.detach().cpu() for name, p in self.parameters.items()}
        self.transport.transcript = transcript = Transcript(keep=0)
        round = Round(self.rounds, self.transport.parties, self.seed, self.layout, start=self.anchor)
        party = self.transport.party
        brought = {party: Contribution(update, self.private)}
        result = run_round(self.scheme, brought, self.public, round, self.transport)
        self.public, self.private = result.public, result.private[party]
        self.bytes_up += transcript.bytes_up(party)
        self.bytes_down += transcript.bytes_down(party)
        self.rounds += 1
        self._apply(result.aggregate)
        return True

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker."""
        return {
            "scheme": self.scheme.spec,
            "party": self.transport.party,
            "workers": len(self.transport.parties),
            **{name: getattr(self, name) for name in COUNTERS},
            **{name: dict(getattr(self, name)) for name in KINDS},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in this rank.

        Raises:
            GradwireError: the state is of another scheme, rank, number of workers or model.
        """
        here = self.state_dict()
        for name in ("scheme", "party", "workers"):
            if state.get(name) != here[name]:
                raise GradwireError(f"state has {name}={state.get(name)!r}; this outer step has {name}={here[name]!r}")
        if odd := set(state["anchor"]) ^ set(self.anchor):
            raise GradwireError(f"state is of another model: only one of the two has a parameter {min(odd)!r}")
        for name in (*COUNTERS, *KINDS):
            setattr(self, name, state[name])

    @torch.no_grad()
    def _apply(self, difference: Mapping[str, Tensor]) -> None:
        """Nesterov: v ← m·v + Δ; θ ← θ − lr·(Δ + m·v), in the model too."""
        for name, anchor in self.anchor.items():
            velocity = self.velocity[name].mul_(self.momentum).add_(difference[name])
            anchor.sub_(difference[name] + self.momentum * velocity, alpha=self.lr)
            self.parameters[name].copy_(anchor)


def outer_step(
    model: nn.Module,
    scheme: str | Scheme,
    every: int = 500,
    lr: float = 0.7,
    momentum: float = 0.9,
    seed: int = 0,
    group: dist.ProcessGroup | None = None,
) -> OuterStep:
    """What `step` after each of the inner optimiser's steps makes DiLoCo of a training without DDP.

    Args:
        model: alike in every worker at the beginning.
        scheme: of the differences of parameters, such as "topk:ratio=0.05" or "qsgd:bits=4".
        every: local steps from one round to the next.
        lr: of the outer optimiser, and its Nesterov `momentum`; 1 and 0 average the parameters.
        seed: of the scheme's public randomness, the same in every worker.

    Raises:
        GradwireError: a scheme that needs what this does not offer, workers that differ, a number out of range.
    """
    chosen = parse(scheme)
    check_carrier(chosen.spec, chosen.needs, "an outer step", OFFERS)
    at_least(1, every=every)
    if not lr > 0 or not 0 <= momentum < 1:
        raise GradwireError(f"lr is {lr} and momentum {momentum}; the one must be positive, the other in [0, 1)")
    if adapted(chosen, unwrapped(model), seed) is not unwrapped(model):
        raise GradwireError(f"{chosen.spec} is for another network than the one it was given")
    return OuterStep(model, chosen, every, lr, momentum, seed, group)
