"""Many rounds at once: what a scheme makes of many examples' gradients, without a message being sent.

Everybody knows the scheme, so that an adversary who has examples of its own can work out what would have been sent of
them. A scheme that offers a rule (`Scheme.imitate`) works it out for all of them as one batch. For any other, rounds
are run one by one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Measurement, Support
from gradwire.schemes.round import Round, State
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.selection import SMALL, Per, largest

Stacked = Mapping[str, Tensor]
"""Gradients of V victims: parameter name → (V, *parameter)."""


def imitates(scheme: Scheme) -> bool:
    """Whether a scheme's own class has a rule: one that it inherits may be of a scheme that sends something else."""
    return "imitate" in vars(type(scheme))


def imitated(
    scheme: Scheme, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
) -> Measurement | None:
    """See `Scheme.imitate`; None where the scheme's own class has no rule."""
    return scheme.imitate(own, means, public, round, random) if imitates(scheme) else None


def flat(gradients: Stacked, layout: Layout) -> Tensor:
    """Each victim's gradient as one vector, shape (V, size)."""
    return torch.cat([gradients[name].flatten(1).to(layout.dtype) for name in layout.shapes], 1)


def parts(vectors: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Vectors (V, size) as gradients: views of them, (V, *parameter) each."""
    split = vectors.split(list(layout.sizes.values()), 1)
    return {
        name: part.unflatten(1, shape or (1,)) for (name, shape), part in zip(layout.shapes.items(), split, strict=True)
    }


def at(gradients: Stacked, positions: Mapping[str, Tensor]) -> Measurement:
    """The terms of entries that are sent of every victim: parameter name → flat positions, int64 (K,)."""
    found = {}
    for name, where in positions.items():
        values = gradients[name].flatten(1)[:, where]
        found[name] = [Support(values, where.expand(len(values), -1), torch.ones_like(values))]
    return found


def largest_of_each(gradients: Stacked, layout: Layout, counts: Mapping[str, int], per: Per) -> Measurement:
    """The terms of each victim's entries of largest magnitude, as `selection.choose` chooses them.

    Of entries of equal magnitude at the border, others may be chosen than there.
    """
    if per == "tensor":
        vectors = {name: gradients[name].flatten(1).to(layout.dtype) for name in layout.shapes}
        chosen = {name: _largest(v, counts[name]) for name, v in vectors.items()}
        return {
            name: [Support(vectors[name].gather(1, where), where, torch.ones(where.shape, dtype=layout.dtype))]
            for name, where in chosen.items()
        }
    whole = flat(gradients, layout)
    where = _largest(whole, sum(counts.values()))
    kept = torch.zeros_like(whole, dtype=torch.bool).scatter_(1, where, True)
    values, found = parts(whole, layout), {}
    for name, mask in parts(kept, layout).items():
        mask = mask.flatten(1)
        if (most := int(mask.sum(1).max())) > 0:
            # The kept positions of each victim first; the shorter rows are padded.
            first = mask.to(torch.uint8).topk(most, 1).indices
            weight = mask.gather(1, first).to(layout.dtype)
            found[name] = [Support(values[name].flatten(1).gather(1, first) * weight, first, weight)]
    return found


def _largest(vectors: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest magnitudes of each row, int64 (V, count); of long rows, one by one."""
    if vectors.shape[1] < SMALL:
        return vectors.abs().topk(count, 1, sorted=False).indices
    return torch.stack([largest(vector, count) for vector in vectors])
