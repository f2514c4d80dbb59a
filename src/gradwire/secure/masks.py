"""Masks: uniform vectors over Z_R, expanded from 32-byte keys by AES-256 in counter mode.

The counter begins at 2, as inside GCM with a zero nonce: some builds of OpenSSL run that twice as fast as plain CTR on
processors with vector AES, others the other way round, and either gives the same bytes. A key serves one vector, of
64 GiB at most. Only the entries that are summed are expanded. The work goes by tiles that stay in the processor's cache
while the masks of all peers are added to them.
"""

import time
from collections.abc import Iterable
from functools import cache
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.unsignedinteger]
"""Elements of Z_R in an unsigned integer type of just as many bits: its arithmetic wraps as Z_R's does."""

TILE_BYTES = 1 << 17
_ZEROS = memoryview(bytes(TILE_BYTES))


def blend(codes: Codes, keys: Iterable[tuple[bytes, int]]) -> None:
    """Add to `codes` (contiguous, little endian, shape (K,)), in place, the mask of every (key, sign): +1 or −1.

    A key has 32 bytes and is never used for another vector.
    """
    which = faster()
    streams = [(stream(key, which), sign) for key, sign in keys]
    # The cipher asks for room of a block beyond what it writes.
    room = bytearray(TILE_BYTES + 15)
    tile = TILE_BYTES // codes.itemsize
    for begin in range(0, len(codes), tile):
        part = codes[begin : begin + tile]
        noise = np.frombuffer(room, dtype=codes.dtype, count=len(part))
        for cipher, sign in streams:
            cipher.update_into(_ZEROS[: part.nbytes], room)
            (np.add if sign > 0 else np.subtract)(part, noise, out=part)


def stream(key: bytes, mode: str) -> Any:
    """The cipher whose output for zeros is the key's mask, in "gcm" or "ctr": the same bytes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    how = modes.GCM(bytes(12)) if mode == "gcm" else modes.CTR(bytes(15) + b"\x02")
    return Cipher(algorithms.AES(key), how).encryptor()


@cache
def faster() -> str:
    """The mode that this machine's OpenSSL runs faster: the best of several turns each, half a millisecond in all."""
    ciphers, room = {mode: stream(bytes(32), mode) for mode in ("ctr", "gcm")}, bytearray(TILE_BYTES + 15)
    best = dict.fromkeys(ciphers, inf)
    for _ in range(8):
        for mode, cipher in ciphers.items():
            started = time.perf_counter()
            cipher.update_into(_ZEROS, room)
            best[mode] = min(best[mode], time.perf_counter() - started)
    return min(best, key=lambda mode: best[mode])


def expand(key: bytes, count: int, dtype: np.dtype[np.unsignedinteger]) -> Codes:
    """The mask of one key: `count` uniform elements of Z_R."""
    codes = np.zeros(count, dtype=dtype)
    blend(codes, [(key, 1)])
    return codes
