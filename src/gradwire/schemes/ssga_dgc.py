"""SSGA-DGC: SSGA whose clients add up their momentum, as in deep gradient compression.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
Algorithm 1, lines 7, 8 and 19; Y. Lin, S. Han, H. Mao, Y. Wang, W. Dally, "Deep gradient compression", ICLR 2018,
whose momentum factor masking is not in Algorithm 1 and is an option here. The optimiser that receives the aggregate
must have no momentum.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import check_fraction
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.round import State
from gradwire.schemes.ssga import SSGA
from gradwire.wire import Need


@dataclass(frozen=True)
class SSGADGC(SSGA):
    """SSGA with local momentum, as in deep gradient compression.

    Attributes:
        momentum: γ of the local momentum.
        masking: clear the momentum of the entries that are sent, as in deep gradient compression (section 3.2 there,
            momentum factor masking). Not the paper's: its Algorithm 1 goes on pushing them.
    """

    name: ClassVar[str] = "ssga-dgc"
    feeds_back = False  # but momentum

    momentum: float = 0.9
    masking: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self.name, self, "momentum")

    @property
    def needs(self) -> frozenset[Need]:
        """Single gradients too, whose momentum it corrects."""
        return super().needs | {Need.SINGLE_GRADIENT}

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """As SSGA, and u ← 0."""
        return {**super().private_state(layout, secret), "momentum": torch.zeros(layout.size, dtype=layout.dtype)}

    def accumulate(self, gradient: Update, private: State, layout: Layout) -> tuple[Tensor, State]:
        """u_t = γ·u_{t−1} + ∇_t (line 7), then R_t = R_{t−1} + u_t (line 8)."""
        velocity = layout.plus(gradient, private["momentum"], self.momentum)
        summed, _ = super().accumulate(layout.unflatten(velocity), private, layout)
        return summed, {"momentum": velocity}

    def sent(self, accumulated: State, union: Tensor) -> State:
        """u, cleared where entries are sent if `masking` is set."""
        return {"momentum": accumulated["momentum"].index_fill(0, union, 0)} if self.masking else accumulated
