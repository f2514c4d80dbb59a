"""The (ε, δ) of a client's differentially private steps, by Google's `dp-accounting`.

ε and δ bound how well one example's part in what the client sends can be told from none (zero-out adjacency). There are
two figures, because the usual one assumes what most training does not do:

- Each step's batch is a Poisson sample at rate q = B/n. DP-SGD's ε commonly means this. Training here takes batches of
  B from shuffled data, which can be less private (L. Chua et al., "How private are DP-SGD implementations?", 2024).
- An example is used at most once in each pass over the data, in whatever order: the Gaussian mechanism, composed over
  passes. This figure holds here, and is larger. A pass counts as soon as the client takes one step of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from gradwire.errors import GradwireError

ORDERS = (*range(2, 65), 128, 256, 512)
"""Orders of the Rényi divergence: whole numbers, as the bound at a fraction is a series that need not converge."""


@dataclass(frozen=True)
class Spent:
    """How a client has used its examples so far.

    Attributes:
        steps: taken.
        passes: over the data in which it took a step; no example has been used more often.
        current: number of the pass of the last step; −1 before the first.
        rate: the largest share of its examples in one step.
    """

    steps: int = 0
    passes: int = 0
    current: int = -1
    rate: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Spent":
        """Read back what `tensors` wrote."""
        counts = {name: int(state[f"spent/{name}"]) for name in ("steps", "passes", "current")}
        return cls(**counts, rate=float(state["spent/rate"]))

    def tensors(self) -> dict[str, Tensor]:
        """For a client's private state."""
        counts = {f"spent/{name}": torch.tensor(getattr(self, name)) for name in ("steps", "passes", "current")}
        return {**counts, "spent/rate": torch.tensor(self.rate, dtype=torch.float64)}

    def after(self, epoch: int, batch: int, examples: int) -> "Spent":
        """With one more step, of the client's pass `epoch` over its data."""
        return Spent(self.steps + 1, self.passes + (epoch != self.current), epoch, max(self.rate, batch / examples))


def epsilons(spent: Spent, noise: float, delta: float) -> tuple[tuple[str, float], ...]:
    """Twice: the condition under which an ε holds, and this ε.

    Args:
        noise: the multiplier, positive.

    Raises:
        GradwireError: `dp-accounting` is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting import rdp
    except ImportError:
        raise GradwireError("ε needs dp-accounting: pip install 'gradwire[dp]'") from None
    step = dp_accounting.PoissonSampledDpEvent(min(1.0, spent.rate), dp_accounting.GaussianDpEvent(noise))
    usual = (
        rdp.RdpAccountant(orders=ORDERS)
        .compose(dp_accounting.SelfComposedDpEvent(step, spent.steps))
        .get_epsilon(delta)
    )
    # k Gaussian mechanisms with noise σ are one with σ/√k.
    sure = dp_accounting.get_epsilon_gaussian(noise / sqrt(spent.passes), delta)
    return (
        (f"as batches are used here, in {spent.passes} passes over a client's data", float(sure)),
        (f"were its {spent.steps} batches Poisson samples at rate {spent.rate:.3g}, which they are not", float(usual)),
    )
