"""Variants of an image on which a membership attack asks the model too: its mirror image and its neighbours."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.errors import GradwireError

KINDS = ("flip", "shift")


def parse(spec: str) -> tuple[str, ...]:
    """The kinds in a spec, `flip`, `shift` or `flip+shift`; none in an empty one. GradwireError refuses others."""
    kinds = tuple(filter(None, spec.split("+")))
    if any(kind not in KINDS for kind in kinds) or len(set(kinds)) < len(kinds):
        raise GradwireError(f"augment is {spec!r}; it must be flip, shift or flip+shift")
    return kinds


def views(images: Tensor, spec: str) -> Tensor:
    """Images (N×C×H×W) and their variants: N×A×C×H×W, the first of the A the image itself; A is 1, 2, 5 or 10.

    Args:
        spec: `flip` adds the mirror image; `shift` adds the image moved by one pixel up, down, left and right, with
            the border repeated; `flip+shift` adds those of both.
    """
    kinds = parse(spec)
    if kinds and images.ndim != 4:
        shape = tuple(images.shape[1:])
        raise GradwireError(
            f"augment is {spec!r}, which is for images alone; inputs have shape {shape}, so leave it out"
        )
    found = [images]
    if "shift" in kinds:
        height, width = images.shape[-2:]
        wider = pad(images.float(), (1, 1, 1, 1), mode="replicate").to(images.dtype)
        found += [wider[..., y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    if "flip" in kinds:
        found += [image.flip(-1) for image in found]
    return torch.stack(found, 1)
