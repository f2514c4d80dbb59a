"""Differentially private SGD: the client clips every example's gradient and adds Gaussian noise to every step.

M. Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1. The client draws
the noise, which protects each of its examples from everybody, the server included (in federated terms: local training
with example-level privacy). What it sends is decoded as that of plain SGD is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import ClassVar

import torch

from gradwire.errors import GradwireError
from gradwire.schemes.accounting import Spent, epsilons
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Round, State
from gradwire.schemes.scheme import Accounting, own_key, own_random
from gradwire.wire import Need
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class DPSGD(PlainSGD, LocalStepHook, Accounting):
    """Follow (Σ_i clip(g_i) + n)/B with n ~ N(0, (noise·clip)²·I) and clip(g) = g·min(1, clip/‖g‖).

    Attributes:
        clip: the norm that no example's gradient, all parameters taken together, exceeds.
        noise: the noise multiplier, the noise's standard deviation over `clip`. 0 clips only: ε is infinite.
        delta: δ of the (ε, δ) that is reported.
    """

    name: ClassVar[str] = "dpsgd"
    needs = frozenset({Need.LOCAL_STEPS})
    per_example = True

    clip: float = 1.0
    noise: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.clip < inf:
            raise GradwireError(f"dpsgd: clip is {self.clip}; it must be positive and finite")
        if not 0 <= self.noise < inf:
            raise GradwireError(f"dpsgd: noise is {self.noise}; it must be finite and not negative")
        if not 0 < self.delta < 1:
            raise GradwireError(f"dpsgd: delta is {self.delta}; it must be between 0 and 1")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own noise, and what it has spent."""
        return {**own_key(secret), **Spent().tensors()}

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """Algorithm 1, lines 6 to 8: what the step follows, and what has been spent with it.

        Args:
            gradient: of each example, shape (B, *parameter).
        """
        norms = torch.stack([g.flatten(1).square().sum(1) for g in gradient.values()]).sum(0).sqrt()
        kept = (self.clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1)
        random = own_random(private, "dpsgd", step.round.index, step.index)
        followed = {}
        for name, g in gradient.items():
            noise = torch.randn(g.shape[1:], generator=random).to(g)
            clipped = torch.einsum("b,b...->...", kept.to(g), g)
            followed[name] = (clipped + self.noise * self.clip * noise) / step.batch
        spent = Spent.of(private).after(step.epoch, step.batch, step.examples)
        return followed, {**private, **spent.tensors()}

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the noise in the sum of the client's steps, whose noises are independent."""
        if work is None:
            return self.noise * self.clip / batch
        return work.lr * sqrt(work.steps) * self.noise * self.clip / work.batch

    def guarantee(self, private: Mapping[str, State]) -> tuple[float, float] | None:
        """(ε, δ) of the client that has spent most, as batches are used here; None without noise or any step.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        most = _most(private)
        return (epsilons(most, self.noise, self.delta)[0][1], self.delta) if most.steps and self.noise else None

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """ε of the client that has spent most: as batches are used here, and as it is usually given."""
        most = _most(private)
        if not most.steps:
            return ()
        if self.noise == 0:
            return ("dpsgd: without noise nothing is guaranteed: ε is infinite",)
        try:
            found = epsilons(most, self.noise, self.delta)
        except GradwireError as error:
            return (f"dpsgd: {error}",)
        return tuple(f"dpsgd: ε = {value:.3g} at δ = {self.delta:g} {where}" for where, value in found)


def _most(private: Mapping[str, State]) -> Spent:
    """What the client that has spent most has spent."""
    return max((Spent.of(state) for state in private.values()), key=lambda each: (each.passes, each.steps))
