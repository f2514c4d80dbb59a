"""Ways to look at an image again: what a model learned of it, it learned of its mirror image and its neighbours too."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradwire.errors import GradwireError

KINDS = ("flip", "shift")


def parse(spec: str) -> tuple[str, ...]:
    """The kinds in a spec such as `flip`, `shift` or `flip+shift`; none in an empty one.

    Raises:
        GradwireError: a kind that there is not, or one that is named twice.
    """
    kinds = tuple(filter(None, spec.split("+")))
    if any(kind not in KINDS for kind in kinds) or len(set(kinds)) < len(kinds):
        raise GradwireError(f"augment is {spec!r}; it must be flip, shift or flip+shift")
    return kinds


def views(images: Tensor, spec: str) -> Tensor:
    """Each image as it is, and as the spec varies it.

    Args:
        images: N×C×H×W.
        spec: `flip` adds the mirror image; `shift` adds the image moved by one pixel up, down, left and right, with
            the border repeated; `flip+shift` adds those of both.

    Returns:
        N×A×C×H×W, the first of the A the image itself; A is 1, 2, 5 or 10.
    """
    kinds = parse(spec)
    found = [images]
    if "shift" in kinds:
        height, width = images.shape[-2:]
        wider = pad(images.float(), (1, 1, 1, 1), mode="replicate").to(images.dtype)
        found += [wider[..., y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    if "flip" in kinds:
        found += [image.flip(-1) for image in found]
    return torch.stack(found, 1)
