"""How far a block of code makes this process and those that it starts grow, where the system tells (Linux)."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import nan
from multiprocessing import active_children
from pathlib import Path
from threading import Event, Thread

PAUSE = 0.02
"""Seconds between two looks."""


@dataclass
class Growth:
    """Megabytes between what a block began with and the most that it was seen to hold; NaN until it ends, or if nobody
    tells."""

    megabytes: float = nan


@contextmanager
def peak() -> Iterator[Growth]:
    """Measure a block: resident memory, C++'s and Python's alike, each page once however many processes have it.

    Looking takes time: nothing else should be measured in the block. What earlier work has left for later use is given
    back to the system first.
    """
    grown, ended, seen = Growth(), Event(), list[float]()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    before = _resident()

    def look() -> None:
        while not ended.wait(PAUSE):
            seen.append(_resident())

    watch = Thread(target=look, daemon=True)
    watch.start()
    try:
        yield grown
    finally:
        ended.set()
        watch.join()
    grown.megabytes = max([*seen, _resident()]) - before


def _resident() -> float:
    """Of this process and its children, in megabytes: pages that several of them have are divided among these."""
    found = [_share("self"), *(_share(str(child.pid)) for child in active_children())]
    # One that has just ended has no memory any more; without the file nothing is known.
    return nan if found[0] is None else sum(each or 0.0 for each in found)


def _share(process: str) -> float | None:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
