"""FedMIA: the other clients' updates tell what a candidate looks like that is not in one.

G. Zhu, D. Li, H. Gu, Y. Yao, L. Fan, Y. Han, "FedMIA: an effective membership inference attack exploiting 'all for one'
principle in federated learning", CVPR 2025: a one-sided test of the victim's statistic against a Gaussian fitted to
the other clients', averaged over rounds.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.special import log_ndtr

from gradwire.attacks.membership.gradients import Averaged, Cosine, InnerProduct, NormDifference, WireAttack
from gradwire.attacks.membership.variance import FLOOR
from gradwire.attacks.membership.wire_statistics import WireStatistics

Statistic = Literal["cosine", "inner-product", "norm-difference"]


@dataclass(frozen=True)
class FedMIA(WireAttack):
    """The mean over rounds t of Pr[Z ≤ s_t], Z ~ N(μ_t, σ²_t) as fitted to the other clients' s_t; as log-odds.

    Attributes:
        statistic: s, a candidate's and a client's in one round; the cosine is the paper's FedMIA-II.
    """

    name: ClassVar[str] = "fedmia"

    statistic: Statistic = "cosine"

    @property
    def clients(self) -> int:
        """The victim, and two others for a variance."""
        return 3

    def scores(self, traces: WireStatistics, victim: int = 0) -> Tensor:
        """See the class."""
        self.check(traces, victim)
        kinds: tuple[type[Averaged], ...] = (Cosine, InnerProduct, NormDifference)
        chosen = next(kind for kind in kinds if kind.name == self.statistic)()
        values = chosen.statistic(traces)
        others = values[:, torch.arange(values.shape[1]) != victim]
        scale = others.square().mean(1).clamp_min(1e-300)
        z = (values[:, victim] - others.mean(1)) / others.var(1).clamp_min(FLOOR * scale).sqrt()
        # Both tails are averaged as logarithms: a mean of probabilities near 1 would lose what tells them apart.
        rounds = torch.tensor(float(len(z)), dtype=z.dtype).log()
        below, above = (log_ndtr(sign * z).logsumexp(0) - rounds for sign in (1, -1))
        return below - above
