"""Deep gradient compression: send 0.1 % of the entries, and keep a local momentum for the rest.

Y. Lin, S. Han, H. Mao, Y. Wang, W. J. Dally, "Deep gradient compression: Reducing the communication bandwidth for
distributed training", ICLR 2018, algorithm 4: momentum correction (eq. 4), local gradient clipping (section 3.1),
momentum factor masking (eq. 6), warm-up of the ratio (section 3.3).
"""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import check_fraction, not_negative, positive
from gradwire.schemes.imitation import Stacked, flat, largest_of_each
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.selection import choose
from gradwire.schemes.sparse import SparseMessages
from gradwire.schemes.sparsifier import check_share, shares
from gradwire.wire import ClientHalf, Need


@dataclass(frozen=True)
class DGC(SparseMessages):
    """Top-K of an accumulated velocity. The clients apply the momentum, and the optimiser none.

    An adaptive adversary takes the sent entries of the velocity v for those of the gradient. They are in a client's
    first round (clipped: times a number), and where an entry was sent the round before. Elsewhere v also holds a
    decaying sum of earlier rounds' gradients, which the adversary takes for noise.

    Attributes:
        ratio: the share of each tensor's entries to send once warmed up.
        momentum: m, in [0, 1).
        clip: the largest norm of N clients' summed gradients: each clips its own to clip/√N. None: no clipping.
        warmup_epochs: epochs in which the ratio falls to its final value, by the same factor every epoch: with 4 of
            them and 0.1 %, the paper's 25 %, 6.25 %, 1.6 %, 0.4 %.
    """

    name: ClassVar[str] = "dgc"
    needs = frozenset({Need.SINGLE_GRADIENT})

    ratio: float = 0.001
    momentum: float = 0.9
    clip: float | None = None
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        check_share("dgc", "ratio", self.ratio)
        check_fraction(self.name, self, "momentum")
        positive(self.name, self, "clip")
        not_negative(self.name, self, "warmup_epochs")

    @property
    def local_momentum(self) -> float:
        """m."""
        return self.momentum

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The momentum u ← 0 and the accumulated velocity v ← 0, flat."""
        return {name: torch.zeros(layout.size, dtype=layout.dtype) for name in ("momentum", "velocity")}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """u ← m·u + g, v ← v + u; send the largest entries of v; clear u and v where they were sent."""
        g = self.clipped(round.layout.flatten(update), len(round.clients))
        u = g.add_(private["momentum"], alpha=self.momentum)
        v = private["velocity"] + u
        sent = choose(v, round.layout, shares(round.layout, self.ratio_at(round.epoch)), "tensor")
        state = {"momentum": u.index_fill_(0, sent.indices, 0), "velocity": v.index_fill_(0, sent.indices, 0)}
        return (yield from self.exchange(sent, state, public, round))

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The largest entries of every gradient, clipped: in a first round they are the velocity's."""
        clipped = own
        if self.clip is not None:
            norms = flat(own, round.layout).norm(dim=1)
            factors = (self.clip / sqrt(len(round.clients)) / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(
                1
            )
            clipped = {name: g * factors.view(-1, *[1] * (g.ndim - 1)) for name, g in own.items()}
        counts = shares(round.layout, self.ratio_at(round.epoch))
        return largest_of_each(clipped, round.layout, counts, "tensor")

    def clipped(self, gradient: Tensor, clients: int) -> Tensor:
        """The gradient with a norm of at most clip/√N, so that the sum of N independent ones is about clip at most."""
        if self.clip is None:
            return gradient
        norm = float(gradient.norm())
        return gradient * min(1.0, self.clip / sqrt(clients) / norm) if norm else gradient

    def ratio_at(self, epoch: int) -> float:
        """The share to send in this epoch."""
        return self.ratio ** min(1.0, (epoch + 1) / (self.warmup_epochs + 1))
