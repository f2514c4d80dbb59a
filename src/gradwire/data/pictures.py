"""Encoded pictures to tensors."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradwire.errors import GradwireError

Mode = Literal["L", "RGB"]
"""One channel or three, in Pillow's words."""

_GRAY = {"1", "L", "LA"}
# More than eight bits a channel. Pillow would clip these to white without a word, so they are refused instead.
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


@contextmanager
def _opened(source: Path | bytes, what: str) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with it, then or while it is decoded, is said of `what`."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            yield picture
    except GradwireError:
        raise
    # Pillow reports a broken file in all of these ways, by format and by place.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise GradwireError(f"cannot read image {what}: {reason}; it must be a whole picture file") from error


def _check_size(first: str, expected: tuple[int, int], what: str, size: tuple[int, int]) -> None:
    if size != expected:
        raise GradwireError(
            f"images of mixed sizes: {first} is {expected[0]}×{expected[1]} and {what} is {size[0]}×{size[1]} "
            "(width×height); all must have one size"
        )


def survey(paths: Sequence[Path]) -> Mode:
    """Read the headers of picture files, without decoding them, and say how they are to be decoded.

    Returns:
        `L` if every picture is gray, `RGB` if any has colour.

    Raises:
        GradwireError: a file that is no picture, has more than 8 bits a channel, or has another size than the first.
    """
    mode: Mode = "L"
    expected: tuple[int, int] | None = None
    for path in paths:
        with _opened(path, str(path)) as picture:
            expected = expected or picture.size
            _check_size(str(paths[0]), expected, str(path), picture.size)
            if picture.mode in _DEEP:
                raise GradwireError(f"image {path} has pixels of mode {picture.mode!r}; save it with 8 bits a channel")
            if picture.mode not in _GRAY:
                mode = "RGB"
    return mode


def decode(sources: Sequence[Path | bytes], mode: Mode, describe: Callable[[int], str]) -> Tensor:
    """Decode pictures of one size.

    Args:
        sources: N picture files, or their contents; N ≥ 1.
        mode: `L` for one channel, `RGB` for three.
        describe: names the i-th source in an error.

    Returns:
        uint8, N×C×H×W.

    Raises:
        GradwireError: a picture that cannot be read, or has another size than the first.
    """
    with _opened(sources[0], describe(0)) as first:
        expected = first.size
    width, height = expected
    pixels = np.empty((len(sources), height, width, len(mode)), dtype=np.uint8)
    for index, source in enumerate(sources):
        with _opened(source, describe(index)) as picture:
            _check_size(describe(0), expected, describe(index), picture.size)
            flat = picture if picture.mode == mode else picture.convert(mode)
            pixels[index] = np.asarray(flat).reshape(height, width, len(mode))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
