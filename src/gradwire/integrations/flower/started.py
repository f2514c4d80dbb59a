"""How a strategy is started over a scheme's grid: what ends without a model does not end as if all were well."""

from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result, Strategy

from gradwire.errors import GradwireError
from gradwire.integrations.flower.grid import SchemeGrid


def run(strategy: Strategy, grid: SchemeGrid, initial_arrays: ArrayRecord, num_rounds: int = 3, **how: Any) -> Result:
    """Start a strategy over a scheme's grid; its final arrays, and those that `evaluate_fn` gets, keep their dtypes.

    Args:
        how: as for `Strategy.start`.

    Raises:
        GradwireError: a strategy that would silently become a plain mean, or weighs clients by another metric; a run
            none of whose rounds has come to an end, which Flower alone would end as if all were well.
    """
    grid.check(strategy)
    if evaluate := how.get("evaluate_fn"):
        how["evaluate_fn"] = lambda round, arrays: evaluate(round, grid.restored(arrays))
    result = strategy.start(grid, initial_arrays, num_rounds, **how)
    if num_rounds and not result.arrays:
        why = "; ".join(f"{party}: {reason}" for party, reason in grid.refused.items())
        raise GradwireError(f"none of {num_rounds} rounds has come to an end; the last: {why or 'no client was asked'}")
    return replace(result, arrays=grid.restored(result.arrays))
