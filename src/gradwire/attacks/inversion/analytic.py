"""The exact input of a first linear layer, read from its gradient.

A layer y = W·x + b has ∂W = Σ δ·xᵀ and ∂b = Σ δ over the batch, δ being the slope at y. A row to which one image alone
gave a slope holds that image: x = ∂W_i / ∂b_i.

- J. Geiping et al., "Inverting gradients – how easy is it to break privacy in federated learning?", NeurIPS 2020,
  proposition 3.1: one image, any row whose bias has a slope.
- M. Balunović et al., "Bayesian framework for gradient leakage", ICLR 2022: what comes behind the layer
  (PRECODE's bottleneck) changes δ, not the ratio.
- L. Fowl et al., "Robbing the Fed", ICLR 2022: in a batch, the rows that one image alone activated.

Compressed gradients are used as far as they go. A left sketch ∂Wᵀ·P = x·(δᵀP) holds one image exactly. The entries that
Top-K sends give x where any row sent one; slopes that were not sent follow from the entries that were, for ∂W has rank
one; a pixel of which nothing was sent counts as zero. Where no entry was sent (signs, cells, a latent code),
the decoded update is read instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem
from gradwire.attacks.inversion.rows import KnownEntries, read, single_activations
from gradwire.progress import Progress, silent
from gradwire.registry import ATTACKS
from gradwire.schemes import Measurement, dense, observation
from gradwire.schemes.measurement import LeftSketch

GREY = 0.5


@dataclass(frozen=True)
class Analytic:
    """Solve for the images; nothing is searched for, and no label is needed."""

    name: ClassVar[str] = "analytic"

    @property
    def spec(self) -> str:
        """The spec that it is read from."""
        return ATTACKS.spec(self)

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
            images in [0, 1], the surest first; the objective is the share of the layer's observed gradient,
            ‖∂W − Δ·X‖² / ‖∂W‖², that they leave unexplained. For one image that is proof; for a batch, mixtures that
            span the same rows explain as much, and an image is the surer the more rows agree on it.

        Raises:
            GradwireError: the model's first layer with parameters is no linear layer that sees the pixels one by one.
        """
        view = problems[0].view
        layer = FirstLayer.of(view.model, view.mode, view.shape)
        images = torch.full((len(problems), *view.shape), GREY)
        objective = torch.full((len(problems),), float("inf"))
        for number, problem in enumerate(problems):
            found = solve(problem, layer)
            if found is not None:
                images[number], objective[number] = found[0].clamp(0, 1).float(), found[1]
            progress(ATTACKING, number + 1, len(problems))
        labels = torch.stack([problem.labels.cpu() for problem in problems])
        solved = f"inputs of {layer.weight.removesuffix('.weight')} solved for in closed form"
        aside = (f"{self.name} {note}" for note in problems[0].left_aside())
        decoded = dict.fromkeys(p.view.scheme for p in problems if _entries(p.measurement, p, layer) is None)
        read_off = (f"{self.name} reads what {spec} decodes to: no entry was sent as it is" for spec in decoded)
        return Guess(images, labels, objective, 1, int(objective.isinf().sum()), (solved, *aside, *read_off))


def solve(problem: Problem, layer: FirstLayer) -> tuple[Tensor, float] | None:
    """Images (B, C, H, W) and the share of ∂W that they leave unexplained; None if no row has a slope."""
    shape, terms = problem.view.shape, problem.measurement
    sketches = [term for term in terms.get(layer.weight, ()) if isinstance(term, LeftSketch)]
    weight, bias = _entries(terms, problem, layer) or _decoded(problem, layer)
    if not (weight.values.isfinite().all() and bias.values.isfinite().all() and bias.values.any()):
        return None
    if shape[0] > 1:
        # Entries that were not sent count as zero.
        ratios, candidates = single_activations(weight.values, bias.values, layer, shape)
        return candidates, _unexplained(weight.values, bias.values, ratios)
    if sketches:
        return _from_sketch(sketches[0], bias.values, layer, shape)
    if weight.complete and bias.complete:
        row = bias.values.abs().argmax()
        inputs, slopes = weight.values[row] / bias.values[row], bias.values
    else:
        inputs, slopes = _complete(weight, bias)
    missing = (weight.values - torch.outer(slopes, inputs)) * weight.known
    return layer.pixels(inputs[None], shape), float(missing.square().sum() / weight.values.square().sum())


def _entries(terms: Measurement, problem: Problem, layer: FirstLayer) -> tuple[KnownEntries, KnownEntries] | None:
    """The entries of the layer's ∂W and ∂b as far as the terms tell; None where they are of another kind."""
    size = problem.view.model.get_parameter(layer.weight).shape
    weight, bias = read(terms.get(layer.weight, ()), size), read(terms.get(layer.bias, ()), size[:1])
    return None if weight is None or bias is None else (weight, bias)


def _decoded(problem: Problem, layer: FirstLayer) -> tuple[KnownEntries, KnownEntries]:
    """The same of the update that the server decodes; its scale does not matter, for only ratios are taken."""
    scheme, seen = observation(problem.view)
    found = _entries(dense(scheme.decode(seen)), problem, layer)
    assert found is not None
    return found


def _from_sketch(
    sketch: LeftSketch, slopes: Tensor, layer: FirstLayer, shape: tuple[int, ...]
) -> tuple[Tensor, float] | None:
    """∂Wᵀ·P = x·cᵀ with c = Pᵀδ: least squares for x. The right sketch ∂W·Q tells only r numbers of it."""
    observed, c = sketch.observed[0].double(), sketch.left[0].double().mT @ slopes
    if not c.any():
        return None
    inputs = observed @ c / c.square().sum()
    missing = observed - torch.outer(inputs, c)
    return layer.pixels(inputs[None], shape), float(missing.square().sum() / observed.square().sum())


def _complete(weight: KnownEntries, bias: KnownEntries) -> tuple[Tensor, Tensor]:
    """x (m,) and δ (n,) with ∂W = δ·xᵀ at its known entries, beginning from the known slopes.

    x and δ are solved for in turns, by least squares over the known entries, until no further slope becomes known.
    """
    slopes, settled = bias.values, bias.known
    while True:
        inputs = _quotient(slopes @ weight.values, slopes.square() @ weight.known)
        estimated = _quotient(weight.values @ inputs, weight.known @ inputs.square())
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
