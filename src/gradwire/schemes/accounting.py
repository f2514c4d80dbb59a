"""What a client's differentially private steps have cost its examples: (ε, δ), by Google's `dp-accounting`.

Privacy here is one example's, against everybody: whether it takes part at all, or counts as zero (zero-out adjacency),
is told apart from what the client sends only as far as ε and δ say. Two figures, because the usual one assumes what
most training does not do:

- Each step's batch is a Poisson sample at rate q = B/n. This is what DP-SGD's ε commonly means. The loop here goes
  through shuffled data in batches of B, which can be less private than that (L. Chua et al., "How private are DP-SGD
  implementations?", ICML 2024).
- An example is used at most once in each pass over the data, and nothing is gained from not knowing when: the Gaussian
  mechanism, composed over passes. That holds for any order, shuffled or not, and is larger. A pass counts as soon as
  the client takes one step of it, so that no example has been used more often than there are passes; some may have
  been used less often, where a pass is broken off or its last examples do not fill a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from gradwire.errors import GradwireError

ORDERS = (*range(2, 65), 128, 256, 512)
"""Of Rényi's divergence. Whole ones: the bound at a fraction is a series that need not converge."""


@dataclass(frozen=True)
class Spent:
    """What a client has done to its examples so far.

    Attributes:
        steps: of descent.
        passes: over the data, in which the client took a step: no example has been used more often.
        current: the number of the pass of the last step; −1 before the first.
        rate: the largest share of its examples that was in one step.
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
        """This, and one more step, of the client's pass `epoch` over its data. A pass is not taken up again later."""
        return Spent(self.steps + 1, self.passes + (epoch != self.current), epoch, max(self.rate, batch / examples))


def epsilons(spent: Spent, noise: float, delta: float) -> tuple[tuple[str, float], ...]:
    """The condition under which each ε holds, and ε.

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
