"""The span of a linear layer's inputs, from what was measured of its gradient.

∂W = Σ δ·xᵀ over the tokens of a batch, so that its rows lie in the span of the inputs x. With fewer tokens than inputs
have numbers, an input of the batch lies in the span of the rows, and hardly any other vector does:
I. Petrov, D. I. Dimitrov, M. Baader, M. N. Müller, M. Vechev, "DAGER: Exact gradient inversion for large language
models", NeurIPS 2024, section 3.

A compressed gradient shows what it holds of the rows. PowerSGD's sketch ∂Wᵀ·P has r vectors of the span, all of it if r
is no less than the number of tokens. Entries that Top-K did not send count as zero. Of signs and cells, the decoded
gradient is read: its largest singular vectors are near the span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from gradwire.attacks.inversion.text.layers import Layer
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement
from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Signs, Support, Term

DROP = 20.0
"""A span counts as seen whole where one singular value is so many times the next: compression leaves no such drop."""
ROUNDING = 1e-5
"""Relative distance that rounding gives an input which is computed anew, in float32 and another order of sums."""
DEPENDENT = 1e-6
"""Singular values below this share of the largest say that inputs are linearly dependent."""


@dataclass(frozen=True)
class Span:
    """What is known of the span of the inputs that some layers have in common.

    Attributes:
        layers: that receive these inputs.
        basis: orthonormal columns, the surest first, float64 (width, k).
        certainty: of each column: 1 in a gradient without noise, 0 where it is nothing but noise; (k,).
        complete: whether every input of the batch lies in the span, up to `tolerance`.
        tolerance: relative distance from the span up to which a vector counts as lying in it.
    """

    layers: tuple[Layer, ...]
    basis: Tensor = field(repr=False)
    certainty: Tensor = field(repr=False)
    complete: bool
    tolerance: float

    @property
    def tokens(self) -> int:
        """Dimensions of the span: as many as there are tokens, if it is complete and their inputs are independent."""
        return self.basis.shape[1]

    @property
    def width(self) -> int:
        """How many numbers an input has."""
        return self.basis.shape[0]

    def distance(self, vectors: Tensor) -> Tensor:
        """How far vectors (…, width) are from the span, relative to their lengths: (…), from 0 to 1."""
        basis = self.basis.to(vectors)
        off = vectors - (vectors @ basis) @ basis.mT
        return off.norm(dim=-1) / vectors.norm(dim=-1).clamp_min(torch.finfo(vectors.dtype).tiny)

    def unexplained(self, inputs: Tensor) -> float:
        """The share of the span that inputs (n, width) do not span: 0 where a batch had these inputs, from 0 to 1."""
        rest = self.basis * self.certainty
        found = spanned(inputs.to(rest))
        rest = rest - found @ (found.mT @ rest)
        return float(rest.square().sum() / self.certainty.square().sum())


def spanned(inputs: Tensor) -> Tensor:
    """An orthonormal basis (width, k) of the span of inputs (n, width)."""
    left, sizes, _ = torch.linalg.svd(inputs.mT, full_matrices=False)
    return left[:, sizes > DEPENDENT * sizes[:1]]


def span(layers: Sequence[Layer], measurement: Measurement, most: int) -> Span | None:
    """The span of the inputs that layers of one group receive; None where nothing but zeros was seen of it.

    Its dimension is where the singular values last drop by the factor `DROP`, among the first `most` and above rounding.
    The inputs' distances follow from the drop: where ∂W is seen with an error E, an input is at most ‖E‖ / σ_k away from
    the span of the first k singular vectors (Wedin's bound), and ‖E‖ is about σ_{k+1}.

    Without a drop, the span is not seen whole (fewer vectors of it than tokens), or through noise. Then the first `most`
    vectors are taken, each as certain as it stands out from those behind them, and the span is not complete.

    Args:
        most: tokens that the batch has at most.
    """
    seen = [columns(layer, measurement[layer.weight]) for layer in layers if layer.weight in measurement]
    # Queries and keys of an untrained network have much smaller slopes than values, and are seen as sharply.
    vectors = [each / each.norm() for each in seen if bool(each.isfinite().all()) and bool(each.any())]
    if not vectors:
        return None
    left, sizes, _ = torch.linalg.svd(torch.cat(vectors, 1), full_matrices=False)
    above = sizes > torch.finfo(torch.float32).eps * sizes[0]
    ratios = sizes[:-1] / sizes[1:].clamp_min(torch.finfo(sizes.dtype).eps * sizes[0])
    drops = ((ratios >= DROP) & above[:-1])[:most].nonzero()[:, 0]
    if len(drops):
        dimension = int(drops[-1]) + 1
        tolerance = ROUNDING + 2 / float(ratios[dimension - 1])
        return Span(tuple(layers), left[:, :dimension], sizes.new_ones(dimension), True, tolerance)
    dimension = min(most, int(above.sum()))
    noise = sizes[most:].square().mean() if len(sizes) > most else sizes.new_zeros(())
    certainty = (1 - noise / sizes[:dimension].square()).clamp_min(0)
    return Span(tuple(layers), left[:, :dimension], certainty, False, 1.0)


def columns(layer: Layer, terms: Sequence[Term]) -> Tensor:
    """Vectors in the span of a layer's inputs, as the columns of a matrix (width, K), float64.

    Raises:
        GradwireError: terms of which no vector can be read (see `readable`).
    """
    wanted = LeftSketch if layer.inner == 1 else RightSketch
    shape = (layer.outputs, layer.width) if layer.inner == 1 else (layer.width, layer.outputs)
    for term in terms:
        if isinstance(term, wanted):
            return term.observed[0].double()
        if isinstance(term, Support):
            sent = term.weight[0] > 0
            gradient = torch.zeros(prod(shape), dtype=torch.float64, device=term.observed.device)
            gradient[term.indices[0][sent]] = term.observed[0][sent].double()
            return gradient.view(shape).movedim(layer.inner, 0)
        if isinstance(term, Dense | Signs):
            return term.observed[0].double().movedim(layer.inner, 0)
    raise GradwireError(f"dager cannot read what was sent of {layer.weight!r}")


def readable(terms: Sequence[Term]) -> bool:
    """Whether vectors can be read of terms: not of a latent code, of which the decoded update is to be read."""
    return any(isinstance(term, Dense | Signs | Support | LeftSketch | RightSketch) for term in terms)
