"""Whether labels of a batch of one follow from what was sent, by the signs of slopes, or are estimates."""

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels.head import Head
from gradwire.schemes import Layout, Measurement, observation, pooled
from gradwire.schemes.measurement import Cells, Dense, Signs, Support, Term
from gradwire.wire import View


def proven(view: View, head: Head, sent: Measurement, label: int, by_bias: bool) -> bool:
    """Whether the label of a batch of one follows from what was sent: its slope is certainly negative, or the largest.

    Slopes of the other classes are probabilities. A row of the weight is its class's slope times the features.
    """
    if not _whole(view):
        return False
    if not by_bias:
        return head.classes > 2 and any(type(term) is Dense for term in sent.get(head.weight or "", ()))
    terms = sent.get(head.bias or "", ())
    return any(bool((_most(term, head.scale.sign()) < 0)[label]) for term in terms)


def all_signs_sent(view: View, head: Head, sent: Measurement) -> bool:
    """Whether what was sent shows the sign of every logit's slope."""
    if head.bias is None or not _whole(view):
        return False
    terms = sent.get(head.bias, ())
    ones = torch.ones(head.classes, dtype=torch.float64)
    return any(bool(((_most(term, ones) < 0) | (_most(term, -ones) < 0)).all()) for term in terms)


def _most(term: Term, signs: Tensor) -> Tensor:
    """The most that each of signs·(a bias's gradient) can be, (classes,); infinite where nothing was sent of it."""
    most = torch.full_like(signs, torch.inf)
    observed = term.observed[0].double().flatten()
    if isinstance(term, Support):
        sent = term.indices[0][term.weight[0] > 0]
        most[sent] = signs[sent] * observed[term.weight[0] > 0]
    elif isinstance(term, Cells):
        most = signs * observed + term.width[0].double().flatten()
    elif isinstance(term, Dense | Signs):
        most = torch.where(observed != 0, signs * observed, torch.inf)
    return most


def _whole(view: View) -> bool:
    """Whether what was sent is of this victim's gradient in this round alone: no sum, residual, noise or decay."""
    scheme, seen = observation(view)
    summed = len(pooled(view, scheme)) > 1
    carried = view.round > 0 and bool(scheme.private_state(Layout.of_model(view.model)))
    decayed = view.work is not None and bool(view.work.weight_decay)
    noisy = scheme.deviation(seen.round, view.shape[0], view.work) > 0
    return not (summed or carried or decayed or noisy or scheme.step_hook)
