"""Images that occur more than once."""

import xxhash

from gradwire.data.dataset import Dataset


def fingerprints(dataset: Dataset) -> list[bytes]:
    """A digest of every image's pixels: equal for equal images, and for no others that anybody will meet."""
    return [xxhash.xxh3_128_digest(image.numpy().tobytes()) for image in dataset.images]


def copy_within(prints: list[bytes]) -> tuple[int, int] | None:
    """The positions of the first image that repeats an earlier one, the earlier one first; None if none does."""
    first: dict[bytes, int] = {}
    for position, digest in enumerate(prints):
        if digest in first:
            return first[digest], position
        first[digest] = position
    return None
