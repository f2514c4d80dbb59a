"""Which of Flower's strategies a scheme leaves right, and how one is started.

Every reply that a strategy gets of a scheme's round holds the same arrays: the model after it. That is right for
strategies that begin with the replies' weighted mean, and wrong for all that compare clients (medians, Krum, clipping
at the server): those are refused, unless replies are opened. The grid finds the strategy that calls it, so that
`strategy.start(grid)` is as safe.
"""

import sys
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
    Result,
    Strategy,
)

from gradwire.errors import GradwireError

if TYPE_CHECKING:
    from gradwire.integrations.flower.grid import SchemeGrid

MOVING = (FedAvgM, FedAdagrad, FedAdam, FedYogi)
"""Strategies that go on from the mean by an optimiser, which moves every array: counters and variances, too."""

CLIPPED = (DifferentialPrivacyClientSideFixedClipping, DifferentialPrivacyClientSideAdaptiveClipping)
"""Strategies whose noise is sized for updates that clients have clipped."""


def run(strategy: Strategy, grid: "SchemeGrid", initial_arrays: ArrayRecord, num_rounds: int = 3, **how: Any) -> Result:
    """Start a strategy over a scheme's grid; its final arrays, and those that `evaluate_fn` gets, keep their dtypes.

    Args:
        how: as for `Strategy.start`.

    Raises:
        GradwireError: a strategy that would silently become a plain mean, or weighs clients by another metric; a run
            none of whose rounds has come to an end, which Flower alone would end as if all were well.
    """
    check(strategy, grid)
    if evaluate := how.get("evaluate_fn"):
        how["evaluate_fn"] = lambda round, arrays: evaluate(round, grid.restored(arrays))
    result = strategy.start(grid, initial_arrays, num_rounds, **how)
    if num_rounds and not result.arrays:
        why = "; ".join(f"{party}: {reason}" for party, reason in grid.refused.items())
        raise GradwireError(f"none of {num_rounds} rounds has come to an end; the last: {why or 'no client was asked'}")
    return replace(result, arrays=grid.restored(result.arrays))


def calling() -> Strategy | None:
    """The strategy whose method has led here; None where the grid is used without one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), Strategy):
        frame = frame.f_back
    return frame and frame.f_locals["self"]


def check(strategy: Strategy | None, grid: "SchemeGrid") -> None:
    """Refuse a strategy that a scheme would make another.

    Raises:
        GradwireError: naming it.
    """
    if strategy is None:
        return
    name, own, spec = type(strategy).__name__, type(strategy).aggregate_train, grid.scheme.spec
    if isinstance(strategy, CLIPPED) and spec != "none":
        raise GradwireError(f"strategy {name} wants updates as clients have clipped them; scheme {spec} sends others")
    means = [each.aggregate_train for each in (FedAvg, *MOVING)]
    if grid.replies == "mean" and not getattr(strategy, "mean_suffices", own in means):
        raise GradwireError(
            f"strategy {name} may look at single updates, and a round of scheme {spec} gives it their mean alone; "
            f"FedAvg, FedProx, {', '.join(each.__name__ for each in MOVING)} need no more, nor does a class that says "
            f"mean_suffices = True; SchemeGrid(…, replies='opened') gives each client's update as the server decodes it"
        )
    key = getattr(strategy, "weighted_by_key", grid.weighted_by)
    if grid.weighted_by not in (None, key):
        raise GradwireError(
            f"strategy {name} is weighted by {key!r}, the grid by {grid.weighted_by!r}; they must agree"
        )
