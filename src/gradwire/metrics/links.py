"""A model of a training step's time on a link, and the speed of link at which one scheme overtakes another.

    seconds = compute + coding + 8·bytes / rate + messages · latency

Compute, coding and bytes are measured. The modelled link has one rate each way at once, and nothing overlaps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from gradwire.errors import GradwireError

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_UNITS = {"bps": 1, "bit/s": 1, "b/s": 1, "B/s": 8, "Bps": 8}


@dataclass(frozen=True)
class Step:
    """What one worker's step costs.

    Attributes:
        compute: seconds for the gradient; `coding`, for the scheme and for serialising.
        bytes: that the worker's link carries each way.
        messages: how many of them one after another.
    """

    scheme: str
    compute: float
    coding: float
    bytes: float
    messages: int

    def seconds(self, rate: float, latency: float) -> float:
        """The step's time on a link of `rate` bits a second on which a message takes `latency` seconds more."""
        return self.compute + self.coding + 8 * self.bytes / rate + self.messages * latency

    def beats(self, plain: "Step", latency: float) -> float:
        """The rate, in bits a second, below which this step is faster than `plain`: 0 for never, inf for always."""
        saved = 8 * (plain.bytes - self.bytes)
        costs = self.coding - plain.coding + (self.messages - plain.messages) * latency
        if saved <= 0:
            return 0.0 if costs >= 0 else inf
        return inf if costs <= 0 else saved / costs


def crossing(plain: Mapping[float, float], other: Mapping[float, float]) -> float:
    """The rate below which measured steps are faster than plain ones.

    Args:
        plain, other: bits a second → seconds of a step; both as they were measured, overlap included.

    Returns:
        Between the fastest link up to which the step was faster on every link, and the next one: where a line in
        1 / rate, on which steps lie that wait for their bytes, meets that of plain ones. 0 where it was slower on the
        slowest link already, inf where it was faster on all.
    """
    rates = sorted(plain.keys() & other.keys())
    gains = [plain[rate] - other[rate] for rate in rates]
    slower = next((i for i, gain in enumerate(gains) if gain <= 0), len(rates))
    if slower in (0, len(rates)):
        return inf if slower else 0.0
    share = gains[slower - 1] / (gains[slower - 1] - gains[slower])
    low, high = 1 / rates[slower - 1], 1 / rates[slower]
    return 1 / (low + share * (high - low))


def rate_of(link: str) -> float:
    """Bits a second of a link such as 100mbps, 1gbps, 2.5Gbit/s or 10MB/s; only a capital B means bytes.

    Raises:
        GradwireError: anything else, or a speed of 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kKmMgGtT]?)(bps|bit/s|b/s|B/s|Bps)\s*", link)
    rate = float(found[1]) * _PREFIXES[found[2].lower()] * _UNITS[found[3]] if found else 0.0
    if not rate > 0:
        raise GradwireError(f"link is {link!r}; it must be a speed such as 100mbps, 1gbps or 10MB/s")
    return rate
