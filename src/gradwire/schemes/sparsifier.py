"""What Top-K and Random-K have in common: how many entries they send, and that they may carry the rest over.

They send a share of the entries, or as many as cost what PowerSGD of some rank costs (byte matching).
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from torch import Tensor

from gradwire.errors import GradwireError, check_counts
from gradwire.schemes.layout import Layout
from gradwire.schemes.powersgd import Factorisation
from gradwire.schemes.round import State
from gradwire.schemes.scheme import ErrorFeedback
from gradwire.schemes.selection import Per


@dataclass(frozen=True)
class Sparsifier(ErrorFeedback):
    """Send K entries of the sum of update and residual.

    Attributes:
        ratio: the share of entries to send, in (0, 1].
        match_rank: instead of a ratio, send as many bytes as PowerSGD of this rank would.
        per: send K entries of each "tensor", or of the whole "model".
        error_feedback: add what was not sent to the next update.
    """

    ratio: float | None = None
    match_rank: int | None = None
    per: Per = "tensor"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        name = self.name
        if (self.ratio is None) == (self.match_rank is None):
            raise GradwireError(f"{name} needs either ratio or match_rank: {name}:ratio=0.01 or {name}:match_rank=4")
        check_share(name, "ratio", self.ratio)
        check_counts(name, self, "match_rank")

    @staticmethod
    @abstractmethod
    def affordable(bytes: int, size: int) -> int:
        """The largest K of `size` entries whose message fits into so many bytes."""

    def counts(self, layout: Layout) -> dict[str, int]:
        """K for each parameter; with per="model" only their sum matters."""
        if self.match_rank is not None:
            return matching(layout, self.match_rank, self.affordable)
        assert self.ratio is not None
        return shares(layout, self.ratio)

    def split(self, vector: Tensor, sent: Tensor, private: State) -> State:
        """The private state once the entries of `vector` at `sent` are sent: e ← the others; `vector` is changed."""
        return {**private, "residual": vector.index_fill_(0, sent, 0)} if private else {}


def check_share(scheme: str, name: str, value: float | None) -> None:
    """Refuse a share outside (0, 1]."""
    if value is not None and not 0 < value <= 1:
        raise GradwireError(f"{scheme}: {name} is {value}; it must be in (0, 1]")


def shares(layout: Layout, ratio: float) -> dict[str, int]:
    """K for each parameter: this share of its entries, rounded up."""
    return {name: ceil(ratio * size) for name, size in layout.sizes.items()}


def matching(layout: Layout, rank: int, affordable: Callable[[int, int], int]) -> dict[str, int]:
    """K for each parameter, so that all together cost what PowerSGD of this rank costs, divided as it does.

    Args:
        affordable: (bytes, size) → the largest K that these bytes pay for.
    """
    plan = Factorisation.of(layout, rank)
    total = affordable(4 * plan.entries, layout.size)
    counts = {}
    for name, size in layout.sizes.items():
        n, m, r = plan.shapes.get(name, (0, 0, 0))
        counts[name] = min(size, round((n + m) * r * total / plan.entries) if r else size)
    # The difference to the total is taken from (or given to) the largest parameters first.
    excess = sum(counts.values()) - total
    for name in sorted(layout.sizes, key=lambda name: -layout.sizes[name]):
        change = max(min(excess, counts[name] - 1), counts[name] - layout.sizes[name])
        counts[name] -= change
        excess -= change
    return counts
