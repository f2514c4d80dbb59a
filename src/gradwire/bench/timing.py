"""Timing a function: warm it up, repeat it, take the median."""

import statistics
import time
from collections.abc import Callable


def median_seconds(function: Callable[[], object], repeats: int = 7) -> float:
    """The median wall time of `repeats` calls, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
