"""From a run's one seed to the many generators of its parts: the same words give the same numbers, anywhere."""

import torch
import xxhash


def number(*words: int | str) -> int:
    """A whole number in [0, 2^63) that depends on every one of the words, and on their order."""
    return xxhash.xxh3_64_intdigest(repr(words).encode()) >> 1


def generator(*words: int | str) -> torch.Generator:
    """A CPU generator that depends on every one of the words, and on their order."""
    return torch.Generator().manual_seed(number(*words))
