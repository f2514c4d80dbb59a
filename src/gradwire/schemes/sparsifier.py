"""What Top-K and Random-K have in common: how many entries are kept, and that the rest may be carried over."""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from gradwire.schemes import byte_matching
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import State
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.selection import Per


@dataclass(frozen=True)
class Sparsifier(Scheme):
    """Keep K entries of what an update and the residual add up to.

    Attributes:
        ratio: the share of entries to keep, in (0, 1].
        match_rank: instead of a ratio, keep as many bytes as PowerSGD of this rank would send.
        per: keep K entries within each "tensor", or over the whole "model".
        error_feedback: what was not sent is added to the next update.
    """

    ratio: float | None = None
    match_rank: int | None = None
    per: Per = "tensor"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        byte_matching.check(self.name, self.ratio, self.match_rank)

    @staticmethod
    @abstractmethod
    def affordable(bytes: int, size: int) -> int:
        """The largest K of `size` entries whose message fits into so many bytes."""

    def counts(self, layout: Layout) -> dict[str, int]:
        """K for each parameter; with per="model" only their sum matters."""
        if self.match_rank is not None:
            return byte_matching.match(layout, self.match_rank, self.affordable)
        assert self.ratio is not None
        return byte_matching.shares(layout, self.ratio)

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The residual e ← 0, as one flat vector."""
        return {"residual": torch.zeros(layout.size, dtype=layout.dtype)} if self.error_feedback else {}

    @property
    def feeds_back(self) -> bool:
        """With error feedback."""
        return self.error_feedback
