"""Which of several possible rows a batch holds, and which target stands beside each: what was sent decides.

A gradient is the mean of its examples' own, A(G) = Σ A(g(x, y)) / B for a linear map A. With more numbers sent than
there are candidates, what was sent splits into the parts of the candidates in one way, by least squares; a candidate
that is not of the batch has no part, and the target of one that is follows from its part. No paper's algorithm.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem
from gradwire.engine import engine
from gradwire.errors import GradwireError

EXPLAINED = 1e-6
"""The share of what was sent, ‖A(G) − y‖² / ‖y‖², that may be left for rows to count as those of the victim."""
FULL = 4
"""Candidates and targets beyond so many times the batch are not told apart."""


@dataclass(frozen=True)
class ChosenRows:
    """Rows (B, F) in the order of the problem's targets, and the share of what was sent that they leave unexplained."""

    rows: Tensor
    off: float


def chosen(problem: Problem, candidates: Tensor) -> ChosenRows | None:
    """The B of candidates (R, F), R ≥ B, that explain most of what was sent; None where they cannot be compared."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    view, batch = problem.view, problem.view.shape[0]
    if not problem.targets.numel():
        return None
    due, places = torch.unique(problem.targets.cpu(), dim=0, return_inverse=True)
    if len(candidates) > FULL * batch:
        return None
    pairs = [(row, target) for row in candidates for target in due]
    inputs, targets = (torch.stack(each)[:, None] for each in zip(*pairs, strict=True))
    try:
        gradients = engine(view.model, view.mode, view.task, 1).gradients(inputs, targets)
    except GradwireError:  # such as batch norm, under which no example has a gradient of its own
        return None
    parts, sent = [], []
    for name, terms in problem.measurement.items():
        for term in terms:
            like = next(iter(gradients.values())).full()
            parts.append(term.to(like.device, like.dtype).repeat(len(pairs)).apply(gradients[name]).flatten(1))
            sent.append(term.observed.flatten())
    atoms, observed = torch.cat(parts, 1).detach().double() / batch, torch.cat(sent).double()
    if not (atoms.isfinite().all() and observed.any()):
        return None
    weights = torch.linalg.lstsq(atoms.mT, observed[:, None], driver="gelsd").solution[:, 0]
    each = (weights[:, None] * atoms).unflatten(0, (len(candidates), len(due))).sum(1)
    atoms = atoms.unflatten(0, (len(candidates), len(due)))
    cost = (each[:, None] - atoms).square().sum(2) - each.square().sum(1, keepdim=True)
    slots, rows = linear_sum_assignment(cost[:, places].mT.numpy())
    found = torch.from_numpy(rows)[torch.from_numpy(slots).argsort()]
    off = observed - atoms[found, places].sum(0)
    return ChosenRows(candidates[found], float(off.square().sum() / observed.square().sum()))
