"""What a piece of work takes: its median seconds, the seconds of each party, the megabytes."""

import ctypes
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import TypeVar

import torch

Y = TypeVar("Y")
S = TypeVar("S")
T = TypeVar("T")


Clock = Callable[[], float]
"""Seconds: `time.perf_counter`, or `time.process_time`, which other work on the machine changes less."""


def median_seconds(function: Callable[[], object], repeats: int = 7, clock: Clock = time.perf_counter) -> float:
    """The median time of `repeats` calls, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        started = clock()
        function()
        seconds.append(clock() - started)
    return statistics.median(seconds)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Stopwatch:
    """Seconds that each party spends inside its half of a protocol: the work itself, without the wire."""

    seconds: dict[str, float] = field(default_factory=dict)
    clock: Clock = time.perf_counter

    def around(self, party: str, half: Generator[Y, S, T]) -> Generator[Y, S, T]:
        """The same half; its time between receiving and yielding is counted as the party's."""
        received = None
        while True:
            started = self.clock()
            try:
                sent = half.send(received)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            finally:
                self.seconds[party] = self.seconds.get(party, 0.0) + self.clock() - started
            received = yield sent


def growth(function: Callable[[], object]) -> float:
    """Megabytes by which a call makes this process's resident memory grow at most; NaN where Linux does not tell.

    Memory that earlier work has freed is given to the system first; what is held back for later use counts.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
    except OSError:
        return nan
    function()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    """A line of the status file, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))
