"""FedMIA: a candidate is compared with the other clients' updates, which were made without it.

G. Zhu, D. Li, H. Gu, Y. Yao, L. Fan, Y. Han, "FedMIA: an effective membership inference attack exploiting 'all for one'
principle in federated learning", CVPR 2025.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.special import log_ndtr

from gradwire.attacks.membership.gradients import Averaged, Cosine, InnerProduct, NormDifference, WireAttack
from gradwire.attacks.membership.variance import FLOOR
from gradwire.attacks.membership.wire_statistics import WireStatistics


@dataclass(frozen=True)
class FedMIA(WireAttack):
    """The log-odds of the mean over rounds t of Pr[Z ≤ s_t], Z ~ N(μ_t, σ²_t) fitted to the other clients' s_t.

    Attributes:
        statistic: s, of a candidate and a client in one round; the cosine is the paper's FedMIA-II.
    """

    name: ClassVar[str] = "fedmia"
    clients: ClassVar[int] = 3  # the victim, and two others for a variance

    statistic: Literal["cosine", "inner-product", "norm-difference"] = "cosine"

    def scores(self, statistics: WireStatistics, victim: int = 0) -> Tensor:
        """See the class."""
        self.check(statistics, victim)
        kinds: tuple[type[Averaged], ...] = (Cosine, InnerProduct, NormDifference)
        values = next(kind for kind in kinds if kind.name == self.statistic)().statistic(statistics)
        others = values[:, torch.arange(values.shape[1]) != victim]
        scale = others.square().mean(1).clamp_min(1e-300)
        z = (values[:, victim] - others.mean(1)) / others.var(1).clamp_min(FLOOR * scale).sqrt()
        # Both tails are averaged as logarithms: a mean of probabilities near 1 would lose its digits.
        rounds = torch.tensor(float(len(z)), dtype=z.dtype).log()
        below, above = (log_ndtr(sign * z).logsumexp(0) - rounds for sign in (1, -1))
        return below - above
