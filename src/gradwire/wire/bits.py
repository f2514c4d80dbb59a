"""Small whole numbers, packed: `bits` bits each, eight ones a byte, little end first.

As many numbers as fill a whole number of bytes make a word (two of 4 bits: one byte; eight of 3 bits: three bytes),
so that packing is a handful of shifts over the whole array, no loop over entries.
"""

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
    each, width, kind = _word(bits)
    short = -len(numbers) % each
    if short:
        numbers = np.concatenate((numbers, np.zeros(short, np.uint8)))
    columns = numbers.reshape(-1, each)
    words = columns[:, 0].astype(kind)
    for place in range(1, each):
        words |= columns[:, place].astype(kind) << kind.type(place * bits)
    code = words.view(np.uint8).reshape(len(words), kind.itemsize)[:, :width].reshape(-1)
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
    each, width, kind = _word(bits)
    words = np.zeros((-(-count // each), kind.itemsize), np.uint8)
    short = words.shape[0] * width - len(data)
    words[:, :width] = (np.concatenate((data, np.zeros(short, np.uint8))) if short else data).reshape(-1, width)
    numbers = words.view(kind)
    values = np.empty((len(words), each), np.uint8)
    for place in range(each):
        values[:, place] = (numbers[:, 0] >> kind.type(place * bits)) & kind.type((1 << bits) - 1)
    return torch.from_numpy(values.reshape(-1)[:count])


def _word(bits: int) -> tuple[int, int, np.dtype]:
    """How many numbers make a word, its bytes, and the little-endian integer that holds it."""
    if not 1 <= bits <= MAX_BITS:
        raise WireError(f"numbers of {bits} bits cannot be packed; 1 to {MAX_BITS} can")
    each = 8 // gcd(8, bits)
    width = each * bits // 8
    return each, width, np.dtype(f"<u{next(size for size in (1, 2, 4, 8) if size >= width)}")
