"""How far a block of code makes this process grow, where the system tells (Linux)."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path

STATUS, MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Growth:
    """Megabytes between what a block began with and the most that it held; NaN until it ends, or if nobody tells."""

    megabytes: float = nan


@contextmanager
def peak() -> Iterator[Growth]:
    """Measure a block: resident memory, C++'s and Python's alike. What is held back for later use counts; what earlier
    work has held back is given to the system first."""
    grown = Growth()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        MARK.write_text("5")
        before = _resident("VmRSS")
    except OSError:
        yield grown
        return
    yield grown
    grown.megabytes = _resident("VmHWM") - before


def _resident(name: str) -> float:
    """A line of the status file, in megabytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6
