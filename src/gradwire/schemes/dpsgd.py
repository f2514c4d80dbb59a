"""Differentially private SGD: the client clips every example's gradient and adds Gaussian noise to every step.

M. Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1. The client draws
the noise, which protects each of its examples from everybody, the server included (in federated terms: local training
with example-level privacy). What it sends is decoded as that of plain SGD is.

The guarantee is about what is sent. The mean training loss of a run's tables is not part of it. The noise is of
floating-point numbers, whose last bits an exact analysis does not cover (I. Mironov, "On significance of the least
significant bits for differential privacy", CCS 2012), and of a generator that is made for simulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.accounting import Guarantee, Spent, check_private, of_poisson, of_steps
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
    protects = True
    amplified: ClassVar[bool] = True
    """Whether Poisson batches amplify the privacy of its steps."""

    clip: float = 1.0
    noise: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        check_private(self.name, self.clip, self.noise, self.delta)

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own noise, and what it has spent."""
        return {**own_key(secret), **Spent().tensors()}

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """Algorithm 1, lines 6 to 8: what the step follows, and what has been spent with it.

        Args:
            gradient: of each example, shape (b, *parameter).
        """
        spent, total = Spent.of(private).after(step), clipped_sum(gradient, self.clip)
        noise = self.noise_of(private, step, spent, Layout.of(total))
        scale = self.noise * self.clip
        followed = {name: (t + scale * noise[name].to(t)) / step.batch for name, t in total.items()}
        return followed, {**private, **spent.tensors()}

    def noise_of(self, private: State, step: LocalStep, spent: Spent, layout: Layout) -> Update:
        """n/(noise·clip) of a step: independent of all others'.

        Args:
            spent: with this step.
        """
        return normal(layout, own_random(private, "dpsgd", step.round.index, step.index))

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the noise in the sum of the client's steps, whose noises are independent."""
        if work is None:
            return self.noise * self.clip / batch
        return work.lr * sqrt(work.steps) * self.noise * self.clip / work.batch

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """Of the client that has spent most, as its batches were made; () without noise or any step.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        return of_steps(most_spent(private), self.noise, self.delta) if self.noise else ()

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """The guarantees; and, of shuffled batches, what Poisson ones would have had, which is what is usually told."""
        most = most_spent(private)
        if not most.steps:
            return ()
        if self.noise == 0:
            return (f"{self.name}: without noise nothing is guaranteed: ε is infinite",)
        try:
            found = self.guarantees(private)
            told = [f"{self.name}: {each}" for each in found]
            if found and found[0].adjacency == "replace" and self.amplified:
                usual = of_poisson(most, self.noise, self.delta)
                told.append(f"{self.name}: with sampling poisson it would be {usual}; batches were shuffled")
        except GradwireError as error:
            return (f"{self.name}: {error}",)
        return (*told, f"{self.name}: ε is of what clients send; the training loss in a run's table is not private")


def clipped_sum(gradient: Update, clip: float) -> Update:
    """Σ_i g_i·min(1, clip/‖g_i‖) over the examples' gradients, shape (b, *parameter) each."""
    kept = share_kept(gradient, clip)
    return {name: torch.einsum("b,b...->...", kept.to(g), g) for name, g in gradient.items()}


def share_kept(gradient: Update, clip: float) -> Tensor:
    """min(1, clip/‖g_i‖) of each example, shape (b,)."""
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradient.values()]).sum(0).sqrt()
    return (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1)


def normal(layout: Layout, random: torch.Generator) -> Update:
    """Standard normal numbers in the layout's shapes."""
    return {name: torch.randn(shape, generator=random) for name, shape in layout.shapes.items()}


def most_spent(private: Mapping[str, State]) -> Spent:
    """What no client has spent more of: the largest of each figure."""
    spent = [vars(Spent.of(state)) for state in private.values()]
    return Spent(**{name: max(each[name] for each in spent) for name in vars(Spent())})
