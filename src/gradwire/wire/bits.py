"""Small whole numbers, packed: `bits` bits each, eight ones a byte, little end first.

As many numbers as fill a whole number of bytes make a word (two of 4 bits: one byte; eight of 3 bits: three bytes).
Packing is folding: neighbours move together, then neighbouring pairs, then fours, each time over the whole array.
"""

from collections.abc import Iterator
from math import gcd

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import WireError

MAX_BITS = 8


def packed_size(count: int, bits: int) -> int:
    """Bytes that `pack` makes of `count` numbers."""
    return -(-count * bits // 8)


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack numbers in [0, 2^bits).

    Args:
        values: uint8, shape (N,).
        bits: 1 to 8.

    Returns:
        uint8, shape (⌈N·bits/8⌉,).
    """
    numbers = values.cpu().numpy()
    if bits == 1:
        return torch.from_numpy(np.packbits(numbers, bitorder="little"))
    each, width = _word(bits)
    short = -len(numbers) % each
    lanes = np.concatenate((numbers, np.zeros(short, np.uint8))) if short else np.ascontiguousarray(numbers)
    for kind, low, high, shift in _folds(bits, each):
        lanes = lanes.view(kind)
        lanes = lanes & low | lanes >> shift & low << (high - shift)
    code = lanes.view(np.uint8).reshape(-1, each)[:, :width].reshape(-1)
    return torch.from_numpy(code[: packed_size(values.numel(), bits)].copy())


def unpack(code: Tensor, count: int, bits: int) -> Tensor:
    """The `count` numbers that `pack` made `code` of: uint8, shape (count,).

    Raises:
        WireError: the code has another length.
    """
    if code.dtype != torch.uint8 or code.numel() != packed_size(count, bits):
        takes = packed_size(count, bits)
        raise WireError(f"code holds {code.numel()} bytes of {code.dtype}; {count} numbers of {bits} bits take {takes}")
    data = code.cpu().numpy()
    if bits == 1:
        return torch.from_numpy(np.unpackbits(data, count=count, bitorder="little"))
    each, width = _word(bits)
    words = np.zeros((-(-count // each), each), np.uint8)
    short = len(words) * width - len(data)
    words[:, :width] = (np.concatenate((data, np.zeros(short, np.uint8))) if short else data).reshape(-1, width)
    lanes = words.reshape(-1)
    for kind, low, high, shift in reversed(list(_folds(bits, each))):
        lanes = lanes.view(kind)
        lanes = lanes & low | lanes << shift & low << high
    return torch.from_numpy(lanes.view(np.uint8)[:count])


def _word(bits: int) -> tuple[int, int]:
    """How many numbers make a word, and its bytes."""
    if not 1 <= bits <= MAX_BITS:
        raise WireError(f"numbers of {bits} bits cannot be packed; 1 to {MAX_BITS} can")
    each = 8 // gcd(8, bits)
    return each, each * bits // 8


def _folds(
    bits: int, each: int
) -> Iterator[tuple[np.dtype, np.unsignedinteger, np.unsignedinteger, np.unsignedinteger]]:
    """Lane by lane, twice as wide each time: its integer, the mask of its lower half, where its upper half begins, and
    by how much that half moves down to follow the lower one."""
    half, used = 8, bits
    while half < 8 * each:
        kind = np.dtype(f"<u{half // 4}")
        yield kind, kind.type((1 << used) - 1), kind.type(half), kind.type(half - used)
        half, used = 2 * half, 2 * used
