"""What the wire costs: bytes an index of sparse messages, and the speed of coding and of serialising."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from gradwire.bench.timing import median_seconds
from gradwire.seeds import generator
from gradwire.wire import Message
from gradwire.wire.indices import decode, encode

SIZE = 11_173_962
"""Entries of a ResNet-18's gradient on CIFAR-10."""


@dataclass(frozen=True)
class IndexCost:
    """Positions of `count` random entries out of `SIZE`.

    Attributes:
        bytes_each: of the coded form, an index.
        bound: bytes an index that no code for such sets can undercut on average, log₂ C(n, K) / 8K.
        encode: million indices a second; `decode`, likewise.
    """

    density: float
    count: int
    bytes_each: float
    bound: float
    encode: float
    decode: float


def index_costs(densities: tuple[float, ...] = (0.1, 0.01, 0.001, 0.0001)) -> Iterator[IndexCost]:
    """Codes random positions at several densities."""
    for density in densities:
        count = int(SIZE * density)
        indices = torch.randperm(SIZE, generator=generator("bench", count))[:count].sort().values
        code = encode(indices, SIZE)
        bits = (math.lgamma(SIZE + 1) - math.lgamma(count + 1) - math.lgamma(SIZE - count + 1)) / math.log(2)
        calls = partial(encode, indices, SIZE), partial(decode, code, count, SIZE)
        speeds = (count / 1e6 / median_seconds(call) for call in calls)
        yield IndexCost(density, count, code.numel() / count, bits / 8 / count, *speeds)


def message_speeds() -> tuple[float, float]:
    """Gigabytes a second of encoding and of decoding a message that holds a ResNet-18's gradient."""
    message = Message("client:0", "server", 0, "update", {"dense": torch.randn(SIZE)})
    data = message.encode()
    size = len(data) / 1e9
    return size / median_seconds(message.encode), size / median_seconds(lambda: Message.decode(data))
