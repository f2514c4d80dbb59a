"""DP-FTRL: differentially private steps whose noises cancel, so that what is noisy is the sum of the gradients so far.

P. Kairouz, B. McMahan, S. Song, O. Thakkar, A. Thakurta, Z. Xu, "Practical and private (deep) learning without sampling
or shuffling", ICML 2021, algorithm 1 with the trees of its appendix B, begun anew in each pass over the data. The noise
z_t in the sum of a pass's first t gradients is that of the nodes of a binary tree which together cover these t leaves:
no more than log₂ t + 1 of them. A step follows its gradient and z_t − z_{t−1}, so that SGD's parameters after t steps
are those of the paper without momentum. Nothing has to be drawn at random for that: the order of examples may be known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from gradwire.errors import GradwireError
from gradwire.schemes.accounting import Guarantee, Spent, gaussian
from gradwire.schemes.dpsgd import DPSGD, most_spent, normal
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep
from gradwire.schemes.round import Round, State
from gradwire.schemes.scheme import own_random
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class DPFTRL(DPSGD):
    """Follow (Σ_i clip(g_i) + z_t − z_{t−1})/B, where each node of the tree holds noise N(0, (noise·clip)²·I).

    Attributes:
        clip: as in `dpsgd`.
        noise: the noise multiplier of a node. 0 clips only.
        delta: δ of the (ε, δ) that is reported.
    """

    name: ClassVar[str] = "dpftrl"
    amplified: ClassVar[bool] = False

    def noise_of(self, private: State, step: LocalStep, spent: Spent, layout: Layout) -> Update:
        """z_t − z_{t−1}: the node that is complete with leaf t, less the nodes that it takes the place of.

        Raises:
            GradwireError: a Poisson batch, for an example could be in several leaves of a tree.
        """
        if step.rate is not None:
            raise GradwireError("dpftrl has each example in one step of a pass; set sampling to shuffle")
        t = spent.here
        level = (t & -t).bit_length() - 1

        def node(depth: int, index: int) -> Update:
            return normal(layout, own_random(private, "dpftrl", spent.passes, depth, index))

        total = dict(node(level, (t >> level) - 1))
        for below in range(level):
            for name, old in node(below, ((t - 1) >> (below + 1)) << 1).items():
                total[name] = total[name] - old
        return total

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """As in a pass's first steps: the sum of k has the noise of as many nodes as k has binary ones."""
        if work is None:
            return super().deviation(round, batch)
        return work.lr * sqrt(work.steps.bit_count()) * self.noise * self.clip / work.batch

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """Of the client that has spent most: in each pass an example is in as many nodes as a tree is high.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        most = most_spent(private)
        if not most.steps or not self.noise:
            return ()
        height = most.longest.bit_length()
        how = f"{most.passes} passes over a client's data, each a tree of {height} levels"
        return tuple(
            gaussian(adjacency, most.passes * height, self.noise, self.delta, how)
            for adjacency in ("replace", "zero-out")
        )
