"""What differentially private steps guarantee, by Google's `dp-accounting`: (ε, δ), and about which neighbours.

Two data sets are neighbours where they differ in one example, by one of three relations:

- zero-out: the example's part in each step is zero in one of them. A step's sum differs by one clip.
- replace: there is another example in its place. A step's sum differs by two clips. It is what holds of batches of a
  fixed size from shuffled data, in which an example that is in displaces another.
- add/remove: the example is in one of them only. It fits Poisson batches, which it joins by a coin of its own.

How often an example is used follows from how batches are made:

- Shuffled: at most once in each pass over the data, so that passes compose as Gaussian mechanisms do. A pass counts as
  soon as the client takes one step of it.
- Poisson: in each step with probability q. Privacy is amplified by not knowing when (Abadi et al. 2016), and composed
  as a privacy loss distribution (PLD). What is said of Poisson batches does not hold of shuffled ones (L. Chua et al.,
  "How private are DP-SGD implementations?", ICML 2024).

A client's number of examples, and with it q, the number of steps and their divisor, is taken to be public.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import inf, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.local_step import LocalStep

Adjacency = Literal["replace", "zero-out", "add/remove"]
CLIPS: Mapping[Adjacency, int] = {"replace": 2, "zero-out": 1, "add/remove": 1}
"""How many clips neighbours' sums can differ by in one step."""
LEAST = 0.3
"""Of noise multipliers for a PLD, which holds too many losses below. ε is in the hundreds there: RDP's will do."""
ORDERS = (*range(2, 65), 128, 256, 512)
"""Of the Rényi divergence: whole numbers, as the bound at a fraction is a series that need not converge."""


@dataclass(frozen=True)
class Guarantee:
    """(ε, δ)-differential privacy of what clients send.

    Attributes:
        adjacency: the neighbours that cannot be told apart better than that.
        sampling: how batches were made, and how many.
        accountant: what ε was computed by.
        unit: what neighbours differ in.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    sampling: str
    accountant: str
    unit: Literal["example", "client"] = "example"

    def __str__(self) -> str:
        how = f"{self.sampling}; {self.accountant}"
        return f"ε = {self.epsilon:.3g} at δ = {self.delta:g} under {self.adjacency} of one {self.unit} ({how})"


@dataclass(frozen=True)
class Spent:
    """How a client has used its examples so far.

    Attributes:
        steps: taken; `sampled`, those of them on Poisson batches.
        passes: over the data in which it took a step; no example has been in more of the shuffled batches.
        current: number of the pass of the last step; −1 before the first. `here`: steps in this pass, and `longest`,
            the most in any.
        rate: the largest share of its examples in one step, of a Poisson batch in expectation.
    """

    steps: int = 0
    sampled: int = 0
    passes: int = 0
    current: int = -1
    here: int = 0
    longest: int = 0
    rate: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Spent":
        """Read back what `tensors` wrote."""
        read: dict[str, Any] = {field.name: state[f"spent/{field.name}"].item() for field in fields(cls)}
        return cls(**read)

    def tensors(self) -> dict[str, Tensor]:
        """For a client's private state."""
        kept = vars(self).items()
        return {f"spent/{n}": torch.tensor(v, dtype=torch.float64 if n == "rate" else torch.int64) for n, v in kept}

    def after(self, step: LocalStep) -> "Spent":
        """With one more step."""
        steps, rate = self.steps + 1, step.batch / step.examples if step.rate is None else step.rate
        rate = max(self.rate, min(1.0, rate))
        if step.rate is not None:
            return replace(self, steps=steps, sampled=self.sampled + 1, rate=rate)
        new = step.epoch != self.current
        here = 1 if new else self.here + 1
        return replace(
            self,
            steps=steps,
            passes=self.passes + new,
            current=step.epoch,
            here=here,
            longest=max(self.longest, here),
            rate=rate,
        )


def of_steps(spent: Spent, noise: float, delta: float) -> tuple[Guarantee, ...]:
    """What a client's independent noisy steps guarantee; () where no step was taken, or of both kinds.

    Args:
        noise: the multiplier: the noise's standard deviation over the clip, positive.

    Raises:
        GradwireError: `dp-accounting` is not installed.
    """
    if not spent.steps or 0 < spent.sampled < spent.steps:
        return ()
    if spent.sampled:
        return (of_poisson(spent, noise, delta),)
    return of_passes(spent.passes, noise, delta)


def of_passes(passes: int, noise: float, delta: float) -> tuple[Guarantee, ...]:
    """What shuffled batches guarantee: each example is in one step of a pass, at most."""
    sampling = f"shuffled batches, {passes} passes over a client's data"
    return tuple(gaussian(adjacency, passes, noise, delta, sampling) for adjacency in ("replace", "zero-out"))


def of_poisson(spent: Spent, noise: float, delta: float) -> Guarantee:
    """What the steps that were taken guarantee on Poisson batches."""
    sampling = f"{spent.steps} Poisson batches at rate {spent.rate:.3g}"
    if spent.rate == 1:
        return gaussian("add/remove", spent.steps, noise, delta, sampling)
    epsilon = _poisson(spent.rate, spent.steps, noise, delta)
    return Guarantee(epsilon, delta, "add/remove", sampling, "PLD" if noise >= LEAST else "RDP")


def gaussian(
    adjacency: Adjacency,
    uses: int,
    noise: float,
    delta: float,
    sampling: str,
    unit: Literal["example", "client"] = "example",
) -> Guarantee:
    """What so many uses of an example guarantee: k Gaussian mechanisms with noise σ are one with σ/√k."""
    epsilon = float(_accounting().get_epsilon_gaussian(noise / CLIPS[adjacency] / sqrt(uses), delta))
    return Guarantee(epsilon, delta, adjacency, sampling, "Gaussian mechanism", unit)


def multiplier(epsilon: float, delta: float, adjacency: Adjacency, uses: int) -> float:
    """The noise multiplier with which so many uses of an example are (ε, δ)-private, the inverse of `gaussian`."""
    return float(_accounting().get_sigma_gaussian(epsilon, delta)) * CLIPS[adjacency] * sqrt(uses)


def gaussian_epsilon(distance: float, delta: float) -> float:
    """ε of a Gaussian mechanism whose two outcomes' means are so many standard deviations apart (μ-GDP)."""
    return float(_accounting().get_epsilon_gaussian(1 / distance, delta)) if distance > 0 else 0.0


def check_private(scheme: str, clip: float, noise: float, delta: float) -> None:
    """Refuse hyper-parameters with which nothing can be private."""
    if not 0 < clip < inf:
        raise GradwireError(f"{scheme}: clip is {clip}; it must be positive and finite")
    if not 0 <= noise < inf:
        raise GradwireError(f"{scheme}: noise is {noise}; it must be finite and not negative")
    if not 0 < delta < 1:
        raise GradwireError(f"{scheme}: delta is {delta}; it must be between 0 and 1")


@lru_cache(maxsize=64)
def _poisson(rate: float, steps: int, noise: float, delta: float) -> float:
    """ε of Poisson-sampled Gaussian mechanisms, an upper bound to the discretisation of the privacy loss."""
    dp = _accounting()
    from dp_accounting import pld, rdp

    step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
    neighbours = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = pld.PLDAccountant(neighbours) if noise >= LEAST else rdp.RdpAccountant(ORDERS, neighbours)
    return float(accountant.compose(dp.SelfComposedDpEvent(step, steps)).get_epsilon(delta))


def _accounting() -> Any:
    try:
        import dp_accounting
    except ImportError:
        raise GradwireError("ε needs dp-accounting: pip install 'gradwire[dp]'") from None
    return dp_accounting
