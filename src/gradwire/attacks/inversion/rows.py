"""The known entries of a layer's gradient, and the rows of a batch's gradient that one image alone has filled."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.schemes.measurement import Dense, LeftSketch, Support, Term

AGREE = 1e-5
"""Two rows hold one image if no pixel of theirs differs by more: float32 rounding stays below, mixtures rarely do."""
NEGLIGIBLE = 1e-6
"""Rows whose bias has a smaller slope than this share of the largest are rounding."""


@dataclass(frozen=True)
class KnownEntries:
    """Entries of one parameter's gradient: `values`, zero where not `known` (a mask of 0 and 1); float64."""

    values: Tensor
    mask: Tensor

    @property
    def known(self) -> Tensor:
        """The mask as numbers for matrices, as booleans for vectors."""
        return self.mask.double() if self.mask.ndim > 1 else self.mask

    @property
    def complete(self) -> bool:
        """Whether every entry is known."""
        return bool(self.mask.all())


def read(terms: Sequence[Term], shape: Sequence[int]) -> KnownEntries | None:
    """The entries of a parameter as far as terms tell: all (dense), some (support), or those of P·(GᵀP)ᵀ (a sketch).

    None where no term is of these kinds. Without any term nothing is known: the mask is zero.
    """
    nothing = torch.zeros(*shape, dtype=torch.float64)
    if not terms:
        return KnownEntries(nothing, nothing.bool())
    for term in terms:
        if isinstance(term, Dense):
            return KnownEntries(term.observed[0].double(), nothing == 0)
        if isinstance(term, LeftSketch):
            return KnownEntries(term.left[0].double() @ term.observed[0].double().mT, nothing == 0)
        if isinstance(term, Support):
            sent = term.indices[0][term.weight[0] > 0]
            values, mask = nothing.flatten(), nothing.flatten().bool()
            values[sent], mask[sent] = term.observed[0][term.weight[0] > 0].double(), True
            return KnownEntries(values.view(*shape), mask.view(*shape))
    return None


def single_activations(
    weight: Tensor, bias: Tensor, layer: FirstLayer, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The B rows that most likely hold one image each: as inputs of the layer (≤ B, m) and as images (B, C, H, W).

    Rows of one image agree; a row of several images holds a mixture of its own. Groups of rows that agree come first,
    the largest before the others, then single rows, by how near they stay to the range of pixels. Where fewer rows
    have a slope than there are images, the images left over are mid-grey.
    """
    rows = (bias.abs() > NEGLIGIBLE * bias.abs().max()).nonzero()[:, 0]
    ratios = weight[rows] / bias[rows, None]
    images = layer.pixels(ratios, shape).flatten(1)
    outside = (images - images.clamp(0, 1)).abs().amax(1)
    agree = torch.cdist(images, images, p=float("inf")) <= AGREE
    support = agree.sum(1)
    # Lexicographic: a group in range, its size, then how far out of range, then how strong the row is.
    order = sorted(
        range(len(rows)),
        key=lambda i: (
            -int(support[i]) * bool(support[i] > 1 and outside[i] <= AGREE),
            float(outside[i]),
            -float(bias[rows[i]].abs()),
        ),
    )
    chosen: list[int] = []
    for i in order:
        if len(chosen) < shape[0] and not agree[i, chosen].any():
            chosen.append(i)
    found = torch.full((shape[0], images.shape[1]), 0.5, dtype=images.dtype)
    found[: len(chosen)] = images[chosen]
    return ratios[chosen], found.view(shape)
