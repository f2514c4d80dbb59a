"""The exact input of a first linear layer, read from its gradient.

A layer y = W·x + b has ∂W = Σ δ·xᵀ and ∂b = Σ δ over the batch, δ being the slope at y. A row to which one input alone
gave a slope holds that input: x = ∂W_i / ∂b_i.

- J. Geiping et al., "Inverting gradients – how easy is it to break privacy in federated learning?", NeurIPS 2020,
  proposition 3.1: one input, any row whose bias has a slope.
- M. Balunović et al., "Bayesian framework for gradient leakage", ICLR 2022: what comes behind the layer
  (PRECODE's bottleneck) changes δ, not the ratio.
- L. Fowl et al., "Robbing the Fed", ICLR 2022: in a batch, the rows that one input alone activated.
- Batches of table rows, whose categories are a one among zeros: `rows_in_span`.

Compressed gradients are used as far as they go. A left sketch ∂Wᵀ·P = x·(δᵀP) holds one input exactly. The entries that
Top-K sends give x where any row sent one; slopes that were not sent follow from the entries that were, for ∂W has rank
one; a number of which nothing was sent counts as zero. Where no entry was sent (signs, cells, a latent code),
the decoded update is read instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.first_layer import FirstLayer, KnownEntries, entries
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.attacks.inversion.row_span import rows_in_span
from gradwire.progress import Progress, silent
from gradwire.schemes import dense, observation
from gradwire.schemes.measurement import LeftSketch
from gradwire.tasks import Columns, Domain

AGREE = 1e-5
"""Two rows hold one input if no number of theirs differs by more: float32 rounding stays below, mixtures rarely do."""
NEGLIGIBLE = 1e-6
"""Rows whose bias has a smaller slope than this share of the largest are rounding."""


@dataclass(frozen=True)
class Analytic(Specified):
    """Solve for the inputs; nothing is searched for, and no target is needed, whatever the loss."""

    name: ClassVar[str] = "analytic"

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems one by one, on the CPU in float64, in microseconds each; no checkpoint is written.

        Returns:
            inputs within the domain, the surest first; the objective is the share of the layer's observed gradient,
            ‖∂W − Δ·X‖² / ‖∂W‖², that they leave unexplained. For one input that is proof; for a batch, mixtures that
            span the same rows explain as much, and an input is the surer the more rows agree on it.

        Raises:
            GradwireError: the model's first layer with parameters is not a linear layer that receives single numbers.
        """
        view = problems[0].view
        layer = FirstLayer.of(view.model, view.task, view.mode, view.shape)
        domain = view.task.domain
        inputs = nothing_known(domain, len(problems), view.shape[0])
        objective = torch.full((len(problems),), float("inf"))
        decoded: dict[str, None] = {}
        for number, problem in enumerate(problems):
            known, as_sent = readable(problem, layer)
            if not as_sent:
                decoded[problem.view.scheme] = None
            found = solve(problem, layer, *known)
            if found is not None:
                inputs[number], objective[number] = domain.snapped(found[0].float()), found[1]
            progress(ATTACKING, number + 1, len(problems))
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        solved = f"inputs of {layer.weight.removesuffix('.weight')} solved for in closed form"
        aside = (f"{self.name} {note}" for note in problems[0].left_aside())
        read_off = (f"{self.name} reads what {spec} decodes to: no entry was sent as it is" for spec in decoded)
        return Guess(inputs, targets, objective, 1, int(objective.isinf().sum()), (solved, *aside, *read_off))


def readable(problem: Problem, layer: FirstLayer) -> tuple[tuple[KnownEntries, KnownEntries], bool]:
    """The entries of the layer's ∂W and ∂b, and whether they were sent as they are; else they are the decoded ones."""
    known = entries(problem.measurement, problem, layer)
    if known is not None:
        return known, True
    scheme, seen = observation(problem.view)
    # Its scale does not matter, for only ratios are taken.
    known = entries(dense(scheme.decode(seen)), problem, layer)
    assert known is not None
    return known, False


def nothing_known(domain: Domain, *size: int) -> Tensor:
    """Inputs (*size, *shape) for which nothing speaks: the usual one, or the middle of the domain, or zero."""
    usual = domain.uninformed()
    if usual is None:
        low, high = (torch.as_tensor(bound, dtype=domain.dtype).expand(domain.shape) for bound in domain.bounds())
        usual = torch.where(low.isfinite() & high.isfinite(), (low + high) / 2, 0.0)
    return usual.expand(*size, *domain.shape).clone()


def solve(problem: Problem, layer: FirstLayer, weight: KnownEntries, bias: KnownEntries) -> tuple[Tensor, float] | None:
    """Inputs (B, *shape) and the share of ∂W that they leave unexplained; None if no row has a slope."""
    shape, domain = problem.view.shape, problem.view.task.domain
    if not (weight.values.isfinite().all() and bias.values.isfinite().all() and bias.values.any()):
        return None
    if shape[0] > 1:
        if isinstance(domain, Columns) and weight.known.all() and bias.known.all():
            whole = rows_in_span(layer.seen(weight.values, bias.values), bias.values, domain, shape[0])
            if whole is not None and len(whole) == shape[0]:
                return whole, _unexplained(weight.values, bias.values, layer.entered(whole))
        # Entries that were not sent count as zero.
        rows, candidates = _single_activations(weight.values, bias.values, layer, domain, shape)
        return candidates, _unexplained(weight.values, bias.values, rows)
    sketch = next((term for term in problem.measurement.get(layer.weight, ()) if isinstance(term, LeftSketch)), None)
    if sketch is not None:
        # ∂Wᵀ·P = x·cᵀ with c = Pᵀδ: least squares for x. The right sketch ∂W·Q gives only r numbers of it.
        observed, slopes = sketch.observed[0].double(), sketch.left[0].double().mT @ bias.values
        if not slopes.any():
            return None
        inputs = observed @ slopes / slopes.square().sum()
        missing = observed - torch.outer(inputs, slopes)
        return layer.undone(inputs[None], shape), float(missing.square().sum() / observed.square().sum())
    if weight.known.all() and bias.known.all():
        row = bias.values.abs().argmax()
        inputs, slopes = weight.values[row] / bias.values[row], bias.values
    else:
        inputs, slopes = _complete(weight, bias)
    missing = (weight.values - torch.outer(slopes, inputs)) * weight.known
    found = layer.undone(inputs[None], shape)
    if isinstance(domain, Columns):
        found = domain.completed(found, (weight.known & (slopes != 0)[:, None]).any(0)[None])
    return found, float(missing.square().sum() / weight.values.square().sum())


def _single_activations(
    weight: Tensor, bias: Tensor, layer: FirstLayer, domain: Domain, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The B rows that most likely hold one input each: as inputs of the layer (≤ B, m) and of the network (B, *shape).

    Rows of one input agree; a row of several inputs holds a mixture of its own. Groups of rows that agree come first,
    the largest before the others, then single rows, by how near they stay to the domain. Where fewer rows have a slope
    than there are inputs, nothing is known of the others.
    """
    rows = (bias.abs() > NEGLIGIBLE * bias.abs().max()).nonzero()[:, 0]
    ratios = weight[rows] / bias[rows, None]
    inputs = layer.undone(ratios, shape).flatten(1)
    outside = (inputs - domain.snapped(inputs.unflatten(1, shape[1:])).flatten(1)).abs().amax(1)
    agree = torch.cdist(inputs, inputs, p=float("inf")) <= AGREE
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
    found = nothing_known(domain, shape[0]).to(inputs)
    found[: len(chosen)] = inputs[chosen].unflatten(1, shape[1:])
    return ratios[chosen], found


def _complete(weight: KnownEntries, bias: KnownEntries) -> tuple[Tensor, Tensor]:
    """x (m,) and δ (n,) with ∂W = δ·xᵀ at its known entries, beginning from the known slopes.

    x and δ are solved for in turns, by least squares over the known entries, until no further slope becomes known.
    """
    slopes, settled, known = bias.values, bias.known, weight.known.double()
    while True:
        inputs = _quotient(slopes @ weight.values, slopes.square() @ known)
        estimated = _quotient(weight.values @ inputs, known @ inputs.square())
        reached = settled | (estimated != 0)
        slopes = torch.where(bias.known, bias.values, estimated)
        if torch.equal(reached, settled):
            return inputs, slopes
        settled = reached


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and zero where nothing is known."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), 0)


def _unexplained(weight: Tensor, bias: Tensor, inputs: Tensor) -> float:
    """How much of [∂W ∂b] is no combination of the rows [x 1]."""
    rows = torch.cat([weight, bias[:, None]], 1)
    basis = torch.linalg.qr(torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], 1).mT)[0]
    return float((rows - rows @ basis @ basis.mT).square().sum() / rows.square().sum())
