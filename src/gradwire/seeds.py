"""From a run's one seed to the many generators of its parts: the same words give the same numbers, anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import xxhash


def number(*words: int | str) -> int:
    """A whole number in [0, 2^63) that depends on every one of the words, and on their order."""
    return xxhash.xxh3_64_intdigest(repr(words).encode()) >> 1


def generator(*words: int | str) -> torch.Generator:
    """A CPU generator that depends on every one of the words, and on their order."""
    return torch.Generator().manual_seed(number(*words))


@contextmanager
def drawing(seed: int | None, device: str = "cpu") -> Iterator[None]:
    """Seed the global generators of the CPU and of a device for a while; without a seed, leave them as they are."""
    if seed is None:
        yield
        return
    kind = torch.device(device).type
    with torch.random.fork_rng(devices=[device] if kind == "cuda" else []):
        # torch.manual_seed would seed the generators of every accelerator too, and nothing would set them back.
        torch.default_generator.manual_seed(seed)
        if kind == "cuda":
            torch.cuda.manual_seed(seed)
        yield
