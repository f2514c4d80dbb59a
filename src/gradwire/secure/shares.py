"""Shares of secrets: any t of n holders restore a secret; fewer learn nothing of it.

A. Shamir, "How to share a secret", Communications of the ACM 22(11), 1979, over GF(2⁸) for up to 255 holders and
GF(2¹⁶) for more, each symbol of a secret by a polynomial of its own. Secrets are 16-byte seeds, from which the keys
proper are derived. A product of a secret symbol with a public one is a sum of the secret's multiples by powers of x: no
table is looked up by a secret value, and all shares, or all clients' secrets, are worked out at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from gradwire.errors import WireError
from gradwire.secure.kdf import random_bytes

SECRET_BYTES = 16
AT_ONCE = 1 << 14
"""Shares that are put together at a time, so that they stay in the processor's cache."""

Symbols = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Field:
    """GF(2^bits), with x as the generator of its multiplicative group.

    Attributes:
        polynomial: what x^bits is: a primitive polynomial without its leading term.
    """

    bits: int
    polynomial: int

    @classmethod
    def of(cls, holders: int) -> "Field":
        """The field in which so many holders have numbers of their own."""
        return BYTES if holders < 1 << 8 else PAIRS

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Symbols, little endian."""
        return np.dtype(f"<u{self.bits // 8}")

    @cached_property
    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """x^i for 0 ≤ i < 2·(2^bits − 1), and the logarithm of every symbol but 0: for public numbers."""
        order, power = (1 << self.bits) - 1, 1
        powers, logarithms = np.zeros(2 * order, dtype=np.int64), np.zeros(order + 1, dtype=np.int64)
        for i in range(order):
            powers[i] = powers[i + order] = power
            logarithms[power] = i
            power <<= 1
            power = power ^ self.polynomial ^ (order + 1) if power > order else power
        return powers, logarithms

    def times_x(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """x times every symbol, several of which stand in each 64-bit word."""
        ones = np.uint64(sum(1 << place for place in range(0, 64, self.bits)))
        carries = (words >> np.uint64(self.bits - 1)) & ones
        return ((words & ~(ones << np.uint64(self.bits - 1))) << np.uint64(1)) ^ (carries * np.uint64(self.polynomial))

    def interpolation(self, places: NDArray[np.int64], holders: int) -> NDArray[np.int64]:
        """The Lagrange coefficients at 0 of polynomials that are known at places (m, t), each row different ones.

        The coefficient of place i is the product of x_j / (x_j − x_i) over the other places j. One matrix product adds
        up all logarithms, exactly in float64.
        """
        powers, _ = self.tables
        there = np.zeros((len(places), holders))
        np.put_along_axis(there, places - 1, 1, axis=1)
        exponents = np.take_along_axis(there @ _apart(self, holders), places - 1, axis=1)
        return powers[exponents.astype(np.int64) % ((1 << self.bits) - 1)]


BYTES, PAIRS = Field(8, 0x1D), Field(16, 0x100B)


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares for holders number 0 to `holders` − 1, each as long as the secret (a multiple of 8 bytes).

    Any `threshold` of them give the secret back.
    """
    field = Field.of(holders)
    randomness = random_bytes((threshold - 1) * len(secret))
    words = np.frombuffer(secret + randomness, dtype="<u8").reshape(threshold, -1)
    multiples = []
    for _ in range(field.bits):
        multiples.append(np.unpackbits(words.view(np.uint8), axis=1))
        words = field.times_x(words)
    # Over GF(2): which multiples of which coefficients make up each holder's share. Sums are exact in float32.
    stacked = np.stack(multiples, 1).reshape(threshold * field.bits, -1).astype(np.float32)
    made = (_evaluation(field, threshold, holders) @ stacked).astype(np.int64) & 1
    return [row.tobytes() for row in np.packbits(made.astype(np.uint8), axis=1)]


@lru_cache(maxsize=8)
def _apart(field: Field, holders: int) -> NDArray[np.float64]:
    """The logarithm of x_j / (x_j − x_i) for places j (rows) and i of so many; 0 where they are one."""
    _, logarithms = field.tables
    numbers = np.arange(1, holders + 1)
    apart = (logarithms[numbers] - logarithms[numbers[:, None] ^ numbers]).T
    np.fill_diagonal(apart, 0)
    return np.ascontiguousarray(apart, dtype=np.float64)


@lru_cache(maxsize=8)
def _evaluation(field: Field, threshold: int, holders: int) -> NDArray[np.float32]:
    """The bits of (h + 1)^j for holder h and power j: (holders, threshold · bits), of public numbers."""
    powers, logarithms = field.tables
    order = (1 << field.bits) - 1
    values = powers[np.outer(logarithms[np.arange(1, holders + 1)], np.arange(threshold)) % order]
    bits = (values[:, :, None] >> np.arange(field.bits)) & 1
    return bits.reshape(holders, -1).astype(np.float32)


def combine(shares: Mapping[int, bytes], threshold: int, holders: int) -> bytes:
    """The secret behind the shares (holder's number → share); WireError if they are fewer than `threshold`."""
    if len(shares) < threshold:
        raise WireError(f"{len(shares)} shares of a secret; {threshold} are needed")
    return combine_all([shares], threshold, holders)[0]


def combine_all(several: Sequence[Mapping[int, bytes]], threshold: int, holders: int) -> list[bytes]:
    """The secrets behind many sets of shares, each of at least `threshold`, all of one length."""
    if not several:
        return []
    places = np.array([list(islice(shares, threshold)) for shares in several], dtype=np.int64) + 1
    joined = b"".join(chain.from_iterable(islice(shares.values(), threshold) for shares in several))
    words = np.frombuffer(joined, dtype="<u8").reshape(*places.shape, -1)
    rows = max(1, AT_ONCE // threshold)
    parts = [
        _restored(Field.of(holders), holders, places[begin : begin + rows], words[begin : begin + rows])
        for begin in range(0, len(places), rows)
    ]
    return [row.tobytes() for row in np.concatenate(parts)]


def _restored(field: Field, holders: int, places: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The secrets (m, w) behind shares (m, t, w) of the holders at places (m, t), in 64-bit words."""
    coefficients = field.interpolation(places, holders)
    planes = np.ascontiguousarray(words.transpose(2, 0, 1))
    total = np.zeros(planes.shape[:2], dtype=np.uint64)
    for bit in reversed(range(field.bits)):
        chosen = (-((coefficients >> bit) & 1)).astype(np.uint64)
        total = field.times_x(total) ^ np.bitwise_xor.reduce(planes & chosen, axis=2)
    return np.ascontiguousarray(total.T)
