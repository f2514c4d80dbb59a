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
from math import prod
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.progress import Progress, silent
from gradwire.registry import ATTACKS
from gradwire.schemes import Measurement, dense, observation
from gradwire.schemes.measurement import Dense, LeftSketch, Support, Term
from gradwire.tasks import Domain, Task
from gradwire.wire.view import Mode

GREY = 0.5
EXACT = 1e-9
"""Relative error, in float64, up to which what precedes the layer counts as one scale and one offset a pixel."""
AGREE = 1e-5
"""Two rows hold one image if no pixel of theirs differs by more: float32 rounding stays below, mixtures rarely do."""
NEGLIGIBLE = 1e-6
"""Rows whose bias has a smaller slope than this share of the largest are rounding."""


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
            GradwireError: the model's first layer with parameters is not a linear layer that receives single pixels.
        """
        view = problems[0].view
        layer = FirstLayer.of(view.model, view.task, view.mode, view.shape)
        domain = view.task.domain
        inputs = torch.full((len(problems), *view.shape), GREY)
        objective = torch.full((len(problems),), float("inf"))
        decoded: dict[str, None] = {}
        for number, problem in enumerate(problems):
            known = _entries(problem.measurement, problem, layer)
            if known is None:
                scheme, seen = observation(problem.view)
                # Its scale does not matter, for only ratios are taken.
                known = _entries(dense(scheme.decode(seen)), problem, layer)
                decoded[problem.view.scheme] = None
            assert known is not None
            found = solve(problem, layer, *known)
            if found is not None:
                inputs[number], objective[number] = domain.snapped(found[0].float()), found[1]
            progress(ATTACKING, number + 1, len(problems))
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        solved = f"inputs of {layer.weight.removesuffix('.weight')} solved for in closed form"
        aside = (f"{self.name} {note}" for note in problems[0].left_aside())
        read_off = (f"{self.name} reads what {spec} decodes to: no entry was sent as it is" for spec in decoded)
        return Guess(inputs, targets, objective, 1, int(objective.isinf().sum()), (solved, *aside, *read_off))


@dataclass(frozen=True)
class FirstLayer:
    """The first layer with trainable parameters, a linear one that receives a·x + c of every pixel x.

    Attributes:
        weight: the parameter's name, and `bias` of the other.
        scale: a, float64, shape (C·H·W,): 1/std behind a `Normalize`.
        offset: c, of the same shape.
    """

    weight: str
    bias: str
    scale: Tensor
    offset: Tensor

    @classmethod
    def of(cls, model: nn.Module, task: Task, mode: Mode, shape: tuple[int, ...]) -> "FirstLayer":
        """Find the layer, and measure a and c by sending probes through what comes before it.

        The network is never run beyond the layer, so that bottlenecks and noise behind it do not matter.

        Args:
            shape: (B, C, H, W) of a victim's batch.
        """
        network = set_mode(copied(model).to("cpu", torch.float64), mode)
        pixels = torch.rand(2, *shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        name, layer, reached = _reach(network, task, pixels)
        if not isinstance(layer, nn.Linear):
            found = f"{name!r} is {type(layer).__name__}"
            raise GradwireError(f"analytic needs a first layer with parameters that is Linear; {found}: try iga")
        trained = {name for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
        if not {"weight", "bias"} <= trained:
            raise GradwireError(f"analytic needs the gradients of a weight and a bias; {name!r} lacks one")
        if reached.shape == (2, prod(shape[1:])):
            zero, one = (_reach(network, task, torch.full_like(pixels, value))[2] for value in (0.0, 1.0))
            scale, offset = (one - zero)[0], zero[0]
            off = (scale * pixels.flatten(1) + offset - reached).abs().max()
            if off <= EXACT * reached.abs().max() and (scale != 0).all():
                return cls(f"{name}.weight".lstrip("."), f"{name}.bias".lstrip("."), scale, offset)
        raise GradwireError(f"analytic needs every pixel to reach {name!r} by itself; what comes before it mixes them")

    def pixels(self, inputs: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The images (R, C, H, W) that made inputs (R, C·H·W) of the layer; not clamped."""
        return ((inputs - self.offset) / self.scale).view(-1, *shape[1:])


class _Reached(Exception):
    """Ends a forward pass at the layer that is sought."""

    def __init__(self, layer: nn.Module, inputs: Tensor):
        self.layer, self.inputs = layer, inputs


def _reach(network: nn.Module, task: Task, images: Tensor) -> tuple[str, nn.Module, Tensor]:
    """Name, layer and its input, where images first meet a trainable parameter."""

    def stop(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        raise _Reached(layer, arguments[0])

    own = {m: name for name, m in network.named_modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    hooks = [module.register_forward_pre_hook(stop) for module in own]
    try:
        with torch.no_grad():
            task.output(network, images)
    except _Reached as reached:
        return own[reached.layer], reached.layer, reached.inputs
    finally:
        for hook in hooks:
            hook.remove()
    raise GradwireError(f"analytic finds no layer of {type(network).__name__} that has trainable parameters")


class KnownEntries(NamedTuple):
    """Entries of one parameter's gradient, float64: zero where they are not `known` (bool)."""

    values: Tensor
    known: Tensor


def _entries(terms: Measurement, problem: Problem, layer: FirstLayer) -> tuple[KnownEntries, KnownEntries] | None:
    """The entries of the layer's ∂W and ∂b; None where the terms are of a kind that holds none."""
    size = problem.view.model.get_parameter(layer.weight).shape
    weight, bias = _read(terms.get(layer.weight, ()), size), _read(terms.get(layer.bias, ()), size[:1])
    return None if weight is None or bias is None else (weight, bias)


def _read(terms: Sequence[Term], shape: Sequence[int]) -> KnownEntries | None:
    """A parameter's entries in terms: all (dense), some (support), or those of P·(GᵀP)ᵀ (a sketch)."""
    nothing = torch.zeros(*shape, dtype=torch.float64)
    if not terms:
        return KnownEntries(nothing, nothing.bool())
    for term in terms:
        if type(term) is Dense:  # a quantisation cell is not an entry that was sent as it is
            return KnownEntries(term.observed[0].double(), nothing == 0)
        if isinstance(term, LeftSketch):
            return KnownEntries(term.left[0].double() @ term.observed[0].double().mT, nothing == 0)
        if isinstance(term, Support):
            sent = term.indices[0][term.weight[0] > 0]
            values, known = nothing.flatten(), nothing.flatten().bool()
            values[sent], known[sent] = term.observed[0][term.weight[0] > 0].double(), True
            return KnownEntries(values.view(*shape), known.view(*shape))
    return None


def solve(problem: Problem, layer: FirstLayer, weight: KnownEntries, bias: KnownEntries) -> tuple[Tensor, float] | None:
    """Images (B, C, H, W) and the share of ∂W that they leave unexplained; None if no row has a slope."""
    shape = problem.view.shape
    if not (weight.values.isfinite().all() and bias.values.isfinite().all() and bias.values.any()):
        return None
    if shape[0] > 1:
        # Entries that were not sent count as zero.
        rows, candidates = _single_activations(weight.values, bias.values, layer, problem.view.task.domain, shape)
        return candidates, _unexplained(weight.values, bias.values, rows)
    sketch = next((term for term in problem.measurement.get(layer.weight, ()) if isinstance(term, LeftSketch)), None)
    if sketch is not None:
        # ∂Wᵀ·P = x·cᵀ with c = Pᵀδ: least squares for x. The right sketch ∂W·Q gives only r numbers of it.
        observed, slopes = sketch.observed[0].double(), sketch.left[0].double().mT @ bias.values
        if not slopes.any():
            return None
        inputs = observed @ slopes / slopes.square().sum()
        missing = observed - torch.outer(inputs, slopes)
        return layer.pixels(inputs[None], shape), float(missing.square().sum() / observed.square().sum())
    if weight.known.all() and bias.known.all():
        row = bias.values.abs().argmax()
        inputs, slopes = weight.values[row] / bias.values[row], bias.values
    else:
        inputs, slopes = _complete(weight, bias)
    missing = (weight.values - torch.outer(slopes, inputs)) * weight.known
    return layer.pixels(inputs[None], shape), float(missing.square().sum() / weight.values.square().sum())


def _single_activations(
    weight: Tensor, bias: Tensor, layer: FirstLayer, domain: Domain, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The B rows that most likely hold one image each: as inputs of the layer (≤ B, m) and as images (B, C, H, W).

    Rows of one image agree; a row of several images holds a mixture of its own. Groups of rows that agree come first,
    the largest before the others, then single rows, by how near they stay to the range of pixels. Where fewer rows
    have a slope than there are images, the remaining images are mid-grey.
    """
    rows = (bias.abs() > NEGLIGIBLE * bias.abs().max()).nonzero()[:, 0]
    ratios = weight[rows] / bias[rows, None]
    images = layer.pixels(ratios, shape).flatten(1)
    outside = (images - domain.snapped(images.unflatten(1, shape[1:])).flatten(1)).abs().amax(1)
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
    found = torch.full((shape[0], images.shape[1]), GREY, dtype=images.dtype)
    found[: len(chosen)] = images[chosen]
    return ratios[chosen], found.view(shape)


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
