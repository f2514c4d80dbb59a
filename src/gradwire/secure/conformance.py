"""A conformance test for any code for secure aggregation: write a `Subject`, call `examine`.

Software in use has failed each of the checks: seeds folded to 32 bits, generators that a few outputs give away, a
server that may ask for both secrets of a client, sample counts beside the masked vector, sums that wrap, values that
are clipped without a word, NaN that becomes a number, rounds that one client ends, integers that are wider than need
be.
"""

from collections.abc import Mapping, Sequence
from math import log2
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
TRUSTED = ("aes-ctr", "aes-gcm", "chacha20", "shake", "hmac-drbg")
"""Generators whose past and future output does not follow from what has been seen of it."""

PATTERNS = ((0,), (31,), (0, 16), (3, 7), (8, 24), (12, 28), (5, 21))
"""Bytes of a seed in which one bit is flipped; where a seed is folded by exclusive or, pairs of flips cancel."""


MANY = 2000
"""Clients among whom a sum must not wrap either."""


class Released(NamedTuple):
    """What a round came to: the mean of those who stayed, and what was said of it to anybody."""

    mean: NDArray[np.floating]
    said: Sequence[str] = ()


class Subject(Protocol):
    """The code under examination.

    Attributes:
        generator: what expands seeds; one of `TRUSTED` or something else.
        seed_bytes: length of a seed.
    """

    generator: str
    seed_bytes: int = 32

    @property
    def modulus(self) -> int:
        """Of the sum."""

    @property
    def phases(self) -> Sequence[str]:
        """In which a client sends something, in order."""

    def expand(self, seed: bytes, count: int) -> Integers:
        """The mask of a seed."""

    def encode(self, values: NDArray[np.floating], clients: int) -> Integers:
        """The contribution of one of so many clients, before masking; values in [−1, 1]."""

    def message(self, values: NDArray[np.floating], examples: int) -> Mapping[str, bytes]:
        """All that a client sends of an update from so many examples; the masked vector is called "masked"."""

    def reveal(self, stayed: set[int], dropped: set[int]) -> Mapping[str, set[int]]:
        """Whose "seeds" and "keys" an honest client reveals to a server that claims this; it may raise instead."""

    def release(self, values: Sequence[NDArray[np.floating]], examples: int, vanish: str | None = None) -> Released:
        """A whole round of clients with these values, each of so many examples; it may raise instead.

        Args:
            vanish: the phase before which the second client is gone; by default nobody is.
        """


class ConformanceFinding(NamedTuple):
    """The outcome of one check."""

    check: str
    passed: bool
    detail: str


def examine(subject: Subject, clients: int = 10) -> list[ConformanceFinding]:
    """Run all checks, the gravest first."""
    checks = (
        *(seed_entropy, trusted_generator, uniform_masks, disjoint_shares, side_channels),
        *(overflow_bound, not_finite, saturation, precision, scalars, dropouts, width),
    )
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
    """If all clients send the largest value, the sum does not reach the modulus: of these clients, and of `MANY`."""
    for n in (clients, MANY):
        try:
            total = n * int(subject.encode(np.ones(1), n).max())
        except Exception as error:
            return True, f"{n} clients are refused: {error}"
        if total >= subject.modulus:
            return False, f"{n} extremes make {total}, the modulus is {subject.modulus}"
    return True, f"{MANY} extremes make {total}, the modulus is {subject.modulus}"


def not_finite(subject: Subject, clients: int) -> tuple[bool, str]:
    """A client whose values hold NaN or an infinity sends nothing: the round is refused, or goes on without it."""
    for bad in (np.nan, np.inf):
        values = [np.full(8, 0.5) for _ in range(clients)]
        values[0][3] = bad
        try:
            mean = subject.release(values, 10).mean
        except Exception:
            continue
        if abs(mean[3] - 0.5) > 0.01:
            return False, f"{bad} of one client is taken for a number: the mean of 0.5 becomes {mean[3]:.4g}"
    return True, "nothing that is not finite is masked"


def saturation(subject: Subject, clients: int) -> tuple[bool, str]:
    """A value of 100 among ones counts in full, or somebody is told that it does not."""
    values = [np.ones(8) for _ in range(clients)]
    values[0][3] = 100.0
    due = (100 + clients - 1) / clients
    try:
        mean, said = subject.release(values, 1000)
    except Exception as error:
        return True, f"refused: {error}"
    wrong = f"the mean of one 100 and {clients - 1} ones is {mean[3]:.4g}, not {due:.4g}"
    if abs(mean[3] - due) <= 0.01 * due:
        return True, f"the mean of one 100 and {clients - 1} ones is {mean[3]:.4g}"
    return bool(said), f"{wrong}; {said[0]}" if said else f"{wrong}, and nobody is told"


def precision(subject: Subject, clients: int) -> tuple[bool, str]:
    """The mean of clients with 10 examples each is right to a thousandth of the largest value, rms."""
    random = np.random.default_rng(0)
    values = [random.uniform(-1, 1, 4096) for _ in range(clients)]
    mean = subject.release(values, 10).mean
    error = float(np.sqrt(np.mean((mean - np.mean(values, axis=0)) ** 2)))
    return error <= 1e-3, f"the mean of values up to 1, 10 examples a client, is off by {error:.1e} rms"


def scalars(subject: Subject, clients: int) -> tuple[bool, str]:
    """A number without dimensions, such as batch norm's counter, is summed as any other."""
    mean = subject.release([np.array(0.5) for _ in range(clients)], 1000).mean
    return abs(float(mean) - 0.5) <= 0.01, f"the mean of {clients} times 0.5, without dimensions, is {float(mean):.4g}"


def dropouts(subject: Subject, clients: int) -> tuple[bool, str]:
    """One client may vanish in any phase, and the mean is that of the others, or of all whose vector had arrived."""
    values = [np.full(8, i / clients) for i in range(clients)]
    every, others = np.mean(values), np.mean([each[0] for i, each in enumerate(values) if i != 1])
    ends, wrong = [], []
    for phase in subject.phases:
        try:
            mean = subject.release(values, 1000, phase).mean
        except Exception:
            ends.append(phase)
            continue
        if min(abs(mean[0] - every), abs(mean[0] - others)) > 0.01:
            wrong.append(f"{phase} ({mean[0]:.4g}, not {others:.4g})")
    if wrong:
        return False, f"a client that vanishes before it sends makes a wrong mean: {', '.join(wrong)}"
    if ends:
        return False, f"a client that vanishes before it sends ends the round: {', '.join(ends)}"
    return True, f"a client may vanish in each of {', '.join(subject.phases)}"


def width(subject: Subject, clients: int) -> tuple[bool, str]:
    """A masked entry takes as many bits as the modulus has, and no more."""
    count = 100_000
    bits = 8 * len(subject.message(np.zeros(count), 10)["masked"]) / count
    needed = log2(subject.modulus)
    return bits <= 1.05 * needed, f"{bits:.1f} bits an entry, the modulus has {needed:.0f}"
