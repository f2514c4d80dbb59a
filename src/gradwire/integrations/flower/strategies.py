"""Which of Flower's strategies a scheme leaves right.

Every reply that a strategy gets of a scheme's round holds the same arrays: the model after it. That is right for
strategies that begin with the replies' weighted mean, and wrong for all that compare clients (medians, Krum, clipping
at the server): those are refused, unless replies are opened. The grid finds the strategy that calls it, so that
`strategy.start(grid)` is as safe.
"""

import sys
from types import FrameType

from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
    Strategy,
)

from gradwire.errors import GradwireError

MOVING = (FedAvgM, FedAdagrad, FedAdam, FedYogi)
"""Strategies that go on from the mean by an optimiser, which moves every array: counters and variances, too."""

CLIPPED = (DifferentialPrivacyClientSideFixedClipping, DifferentialPrivacyClientSideAdaptiveClipping)
"""Strategies whose noise is sized for updates that clients have clipped."""


def calling() -> Strategy | None:
    """The strategy whose method has led here; None where the grid is used without one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), Strategy):
        frame = frame.f_back
    return frame and frame.f_locals["self"]


def averages(strategy: Strategy | None) -> bool:
    """Whether a strategy goes on from the mean of what it gets, unmoved."""
    return strategy is not None and type(strategy).aggregate_train is FedAvg.aggregate_train


def check(strategy: Strategy | None, spec: str, replies: str, weighted_by: str | None) -> None:
    """Refuse a strategy that a scheme would make another, over a grid with these replies and weights.

    Raises:
        GradwireError: naming it.
    """
    if strategy is None:
        return
    name, own = type(strategy).__name__, type(strategy).aggregate_train
    if isinstance(strategy, CLIPPED) and spec != "none":
        raise GradwireError(f"strategy {name} wants updates as clients have clipped them; scheme {spec} sends others")
    means = [each.aggregate_train for each in (FedAvg, *MOVING)]
    if replies == "mean" and not getattr(strategy, "mean_suffices", own in means):
        raise GradwireError(
            f"strategy {name} may look at single updates, and a round of scheme {spec} gives it their mean alone; "
            f"FedAvg, FedProx, {', '.join(each.__name__ for each in MOVING)} need no more, nor does a class that says "
            f"mean_suffices = True; SchemeGrid(…, replies='opened') gives each client's update as the server decodes it"
        )
    key = getattr(strategy, "weighted_by_key", weighted_by)
    if weighted_by not in (None, key):
        raise GradwireError(f"strategy {name} is weighted by {key!r}, the grid by {weighted_by!r}; they must agree")
