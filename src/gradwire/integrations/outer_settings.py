"""The numbers of an outer step, which are alike in all workers, and what they must be."""

from dataclasses import dataclass

from gradwire.errors import GradwireError, at_least


@dataclass(frozen=True)
class OuterSettings:
    """What `outer_step` describes, checked.

    Raises:
        GradwireError: a number out of range, or two options that contradict each other.
    """

    every: int
    lr: float
    momentum: float
    seed: int
    fragments: int
    local_residual: bool
    overlap: int
    mixing: float | None

    def __post_init__(self) -> None:
        at_least(1, every=self.every, fragments=self.fragments)
        if self.fragments > self.every:
            there = f"fragments is {self.fragments}"
            raise GradwireError(f"{there}; there must be no more of them than steps, every={self.every}")
        if not self.lr > 0 or not 0 <= self.momentum < 1:
            there = f"lr is {self.lr} and momentum {self.momentum}"
            raise GradwireError(f"{there}; the one must be positive, the other in [0, 1)")
        if not 0 <= self.overlap < self.every:
            there = f"overlap is {self.overlap}"
            raise GradwireError(f"{there}; it must be in [0, every={self.every}): a round ends before the next one")
        if self.overlap and self.local_residual:
            there = f"local_residual keeps what is not sent in a worker's own model; overlap={self.overlap}"
            raise GradwireError(f"{there} mixes that model with the common one: use one of the two")
        if self.mixing is not None and (not self.overlap or not 0 <= self.mixing < 1):
            there = f"mixing is {self.mixing} and overlap {self.overlap}"
            raise GradwireError(f"{there}; the one must be in [0, 1), and it needs the other to be at least 1")

    @property
    def own_share(self) -> float:
        """α: the share of a worker's own parameters in those that it goes on with after a round."""
        return (0.5 if self.mixing is None else self.mixing) if self.overlap else 0.0
