"""R_max: the magnitude to which clients quantise, agreed on by a rule that neither the server nor one client decides.

Each client tells the largest magnitude of what it sends. The server passes all of them on; each client sees that its
own is among them and works out R_max itself, and its masks are bound to what it was told, so that a server which tells
different lists gets noise. The rule is: *the largest, but at most `HEADROOM` times the (c + 1)-th largest*, where c
clients may lie. At least one of the c + 1 largest is an honest client's, so that liars cost two bits of resolution at
most; and where honest clients differ by less than that, R_max is the paper's (the largest), and nothing is clipped. A
bound from the round before would be one more state to agree on and would lag behind at the first step; a secure maximum
takes a secure sum for each bit.
"""

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import part, places
from gradwire.wire import Tensors

HEADROOM = 4.0


def told_maximum(tensors: Tensors, where: str) -> float:
    """The magnitude that a message tells; WireError about `where` if it is missing or is none."""
    told = part(tensors, "maximum", where)
    if told.numel() != 1 or not 0 <= float(told) < inf:
        raise WireError(f"{where}: maximum is {told.tolist()}; it must be a finite magnitude")
    return float(told)


def listed(told: Mapping[int, float]) -> dict[str, Tensor]:
    """The server's reply: what each client, by place, has told."""
    return {
        "places": torch.tensor(list(told), dtype=torch.int32),
        "maxima": torch.tensor(list(told.values()), dtype=torch.float64),
    }


def read_list(tensors: Tensors, where: str) -> dict[int, float]:
    """The list that `listed` put on the wire; WireError about `where` if it is malformed."""
    about, maxima = places(tensors, where), part(tensors, "maxima", where)
    if maxima.dtype != torch.float64 or tuple(maxima.shape) != (len(about),) or not len(about):
        raise WireError(f"{where}: {maxima.numel()} maxima of {maxima.dtype} for {len(about)} places")
    if not ((maxima >= 0) & (maxima < inf)).all():
        raise WireError(f"{where}: maxima are {maxima.tolist()}; they must be finite magnitudes")
    return dict(zip(about, maxima.tolist(), strict=True))


def agreed_maximum(told: Mapping[int, float], liars: int) -> float:
    """R_max, by the rule above, if so many may lie."""
    ordered = sorted(told.values(), reverse=True)
    return min(ordered[0], HEADROOM * ordered[min(liars, len(ordered) - 1)])


def magnitude(values: Tensor) -> Tensor:
    """The largest magnitude, in one pass that allocates nothing; 0 of an empty vector, NaN if one is NaN."""
    if not len(values):
        return values.new_zeros(())
    low, high = values.aminmax()
    return torch.maximum(-low, high)
