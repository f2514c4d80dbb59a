"""Labels of a batch from the positions of a sparse message alone.

Encrypting, masking or rounding the values of a sparse update leaves its positions in the clear. Those of the last
weight suffice: row c of its gradient is Σ (p_c − y_c)·h, about one for the classes that occur and 1/classes for the
others, so that the largest entries lie in the rows of the classes that occur. No paper's algorithm: it is the row rule
of iDLG (Zhao et al. 2020), with magnitudes replaced by whether they were among the largest.
"""

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels import counts, last_linear
from gradwire.errors import GradwireError
from gradwire.schemes import observation
from gradwire.schemes.measurement import Support
from gradwire.wire import View


def support_of(view: View) -> dict[str, Tensor]:
    """Parameter name → int64 positions that the victim sent, ascending; values are not read.

    Raises:
        GradwireError: the scheme sends no positions, or the view tells nothing of the victim.
    """
    scheme, seen = observation(view)
    terms = {
        name: [t for t in terms if isinstance(t, Support)] for name, terms in scheme.measure(seen).items() if terms
    }
    positions = {name: several[0].indices[0] for name, several in terms.items() if several}
    if not positions:
        raise GradwireError(f"scheme {view.scheme!r} sends no positions; sparse-index needs one that does: topk")
    return positions


def labels_from_indices(view: View, batch: int) -> Tensor:
    """The labels that the positions speak for, int64, shape (batch,), ascending.

    A bias that was sent counts for its class as much as the mean row of the weight. With s_c the class's share of what
    was sent, n_c is expected to be batch·(w·s_c + (1 − w)/classes), w = classes/(classes + batch), rounded by least
    squares: the larger a batch, the nearer the counts are to equal.

    A row's size is about |1/classes − n_c/batch|, whose sign positions do not show: from batch ≥ classes/2 on, absent
    classes have rows as large as those that occur, and an untrained network's positions tell next to nothing.

    Raises:
        GradwireError: the scheme sends no positions, or the model has no linear layer.
    """
    weight, bias = last_linear(view.model)
    shapes = {name: p.shape for name, p in view.model.named_parameters()}
    classes, width = shapes[weight]
    positions = support_of(view)
    nothing = torch.empty(0, dtype=torch.int64)
    rows = (positions.get(weight, nothing) // width).bincount(minlength=classes).double()
    if bias is not None and bias in positions:
        rows = rows + rows.mean().clamp_min(1) * positions[bias].bincount(minlength=classes)
    share = rows / rows.sum().clamp_min(1)
    trust = classes / (classes + batch)
    return counts(batch * (trust * share + (1 - trust) / classes), torch.zeros(classes, dtype=torch.bool), batch)
