"""A conformance test for any code for secure aggregation: write a `Subject`, call `examine`.

Software in use has failed each of the checks: seeds folded to 32 bits, generators that a few outputs give away, a
server that may ask for both secrets of a client, sample counts beside the masked vector, sums that wrap, integers that
are wider than need be.
"""

from collections.abc import Mapping
from math import log2
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
TRUSTED = ("aes-ctr", "aes-gcm", "chacha20", "shake", "hmac-drbg")
"""Generators whose past and future output does not follow from what has been seen of it."""

PATTERNS = ((0,), (31,), (0, 16), (3, 7), (8, 24), (12, 28), (5, 21))
"""Bytes of a seed in which one bit is flipped; where a seed is folded by exclusive or, pairs of flips cancel."""


class Subject(Protocol):
    """The code under examination.

    Attributes:
        generator: what expands seeds; one of `TRUSTED` or something else.
        modulus: of the sum.
        seed_bytes: length of a seed.
    """

    generator: str
    modulus: int
    seed_bytes: int = 32

    def expand(self, seed: bytes, count: int) -> Integers:
        """The mask of a seed."""

    def encode(self, values: NDArray[np.floating], clients: int) -> Integers:
        """The contribution of one of so many clients, before masking; values in [−1, 1]."""

    def message(self, values: NDArray[np.floating], examples: int) -> Mapping[str, bytes]:
        """All that a client sends of an update from so many examples; the masked vector is called "masked"."""

    def reveal(self, stayed: set[int], dropped: set[int]) -> Mapping[str, set[int]]:
        """Whose "seeds" and "keys" an honest client reveals to a server that claims this; it may raise instead."""


class ConformanceFinding(NamedTuple):
    """The outcome of one check."""

    check: str
    passed: bool
    detail: str


def examine(subject: Subject, clients: int = 10) -> list[ConformanceFinding]:
    """Run all checks, the gravest first."""
    checks = (seed_entropy, trusted_generator, uniform_masks, disjoint_shares, side_channels, overflow_bound, width)
    return [ConformanceFinding(check.__name__, *check(subject, clients)) for check in checks]


def seed_entropy(subject: Subject, clients: int) -> tuple[bool, str]:
    """Every bit of a seed counts, alone and with others: all seeds tried give different masks."""
    seed = bytes(range(subject.seed_bytes))
    seen = {subject.expand(seed, 64).tobytes(): "no flip"}
    for pattern in PATTERNS:
        places = {place % subject.seed_bytes for place in pattern}
        flipped = bytes(byte ^ (i in places) for i, byte in enumerate(seed))
        mask = subject.expand(flipped, 64).tobytes()
        if mask in seen:
            return False, f"flipping bytes {sorted(places)} of the seed gives the mask of {seen[mask]}"
        seen[mask] = f"flipping {sorted(places)}"
    return True, f"{len(seen)} seeds, as many masks"


def trusted_generator(subject: Subject, clients: int) -> tuple[bool, str]:
    """Masks come from a cryptographic generator."""
    known = subject.generator in TRUSTED
    return known, subject.generator if known else f"{subject.generator} is not one of {', '.join(TRUSTED)}"


def uniform_masks(subject: Subject, clients: int) -> tuple[bool, str]:
    """A mask is uniform over Z_R: its leading six bits, by chi-square, at six sigma."""
    drawn = subject.expand(bytes(subject.seed_bytes), 1_000_000).astype(np.uint64)
    if int(drawn.max()) >= subject.modulus:
        return False, f"a mask holds {int(drawn.max())}, not below {subject.modulus}"
    counts = np.bincount((drawn * 64 // subject.modulus).astype(np.int64), minlength=64)
    expected = counts.sum() / 64
    chi_square = ((counts - expected) ** 2 / expected).sum()
    sigmas = float((chi_square - 63) / (2 * 63) ** 0.5)
    return sigmas < 6, f"{sigmas:.1f} sigma from uniform"


def disjoint_shares(subject: Subject, clients: int) -> tuple[bool, str]:
    """No client reveals shares of the seed and of the key of the same peer, whatever the server claims."""
    for stayed, dropped in (({0, 1, 2}, {3}), ({0, 1, 2}, {2, 3}), ({0, 1, 2, 3}, {3})):
        try:
            revealed = subject.reveal(stayed, dropped)
        except Exception:
            continue
        if both := revealed["seeds"] & revealed["keys"]:
            return False, f"told that {stayed} stayed and {dropped} dropped, it reveals both secrets of {both}"
    return True, "never both secrets of one client"


def side_channels(subject: Subject, clients: int) -> tuple[bool, str]:
    """Nothing that is sent beside the masked vector depends on the client's values or number of examples."""
    small, large = np.full(100, 0.1), np.full(100, 0.9)
    clear = [
        {name: data for name, data in subject.message(values, examples).items() if name != "masked"}
        for values, examples in ((small, 10), (small, 1000), (large, 10))
    ]
    telling = sorted({name for other in clear[1:] for name in clear[0] if other.get(name) != clear[0][name]})
    return not telling, f"in the clear: {', '.join(telling)}" if telling else "nothing in the clear"


def overflow_bound(subject: Subject, clients: int) -> tuple[bool, str]:
    """If all clients send the largest value, the sum does not reach the modulus."""
    total = clients * int(subject.encode(np.ones(1), clients).max())
    return total < subject.modulus, f"{clients} extremes make {total}, the modulus is {subject.modulus}"


def width(subject: Subject, clients: int) -> tuple[bool, str]:
    """A masked entry takes as many bits as the modulus has, and no more."""
    count = 100_000
    bits = 8 * len(subject.message(np.zeros(count), 10)["masked"]) / count
    needed = log2(subject.modulus)
    return bits <= 1.05 * needed, f"{bits:.1f} bits an entry, the modulus has {needed:.0f}"
