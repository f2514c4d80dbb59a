"""Pictures: encoded files or bytes, decoded into tensors."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import GradwireError, in_line

if TYPE_CHECKING:
    from PIL import Image

Mode = Literal["L", "RGB"]
"""One channel or three, in Pillow's words."""
Size = tuple[str, tuple[int, int]]
"""A picture's name, and its width and height."""

_GRAY = {"1", "L", "LA"}
# More than eight bits a channel. Pillow would clip these to white without a word, so they are refused instead.
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


@contextmanager
def _opened(source: Path | bytes, what: str, first: Size | None = None) -> Iterator["Image.Image"]:
    """Open a picture; GradwireError names `what` if it cannot be read or has another size than the first picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            if first and picture.size != first[1]:
                one, other = ("×".join(map(str, size)) for size in (first[1], picture.size))
                sizes = f"{first[0]} is {one} and {what} is {other} (width×height)"
                raise GradwireError(f"images of mixed sizes: {sizes}; all must have one size")
            yield picture
    except GradwireError:
        raise
    # Pillow reports a broken file in all of these ways, by format and by place.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = in_line(error)
        raise GradwireError(f"cannot read image {what}: {reason}; it must be a whole picture file") from error


def survey(paths: Sequence[Path]) -> Mode:
    """The mode in which to decode picture files, from their headers: `L` if all are gray, `RGB` if any has colour.

    Raises:
        GradwireError: a file that is no picture, has more than 8 bits a channel, or has another size than the first.
    """
    mode: Mode = "L"
    first = None
    for path in paths:
        with _opened(path, str(path), first) as picture:
            first = first or (str(path), picture.size)
            if picture.mode in _DEEP:
                raise GradwireError(f"image {path} has pixels of mode {picture.mode!r}; save it with 8 bits a channel")
            if picture.mode not in _GRAY:
                mode = "RGB"
    return mode


def decode(sources: Sequence[Path | bytes], mode: Mode, describe: Callable[[int], str]) -> Tensor:
    """Decode pictures of one size: uint8, N×C×H×W.

    Args:
        sources: N picture files, or their contents; N ≥ 1.
        describe: names the i-th source in an error.

    Raises:
        GradwireError: a picture that cannot be read, or has another size than the first.
    """
    with _opened(sources[0], describe(0)) as picture:
        first, (width, height) = (describe(0), picture.size), picture.size
    pixels = np.empty((len(sources), height, width, len(mode)), dtype=np.uint8)
    for index, source in enumerate(sources):
        with _opened(source, describe(index), first) as picture:
            flat = picture if picture.mode == mode else picture.convert(mode)
            pixels[index] = np.asarray(flat).reshape(height, width, len(mode))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
