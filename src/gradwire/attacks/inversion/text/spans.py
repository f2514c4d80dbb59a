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

from gradwire.attacks.inversion.text.layers import LinearLayer
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement
from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Signs, Support, Term

DROP = 20.0
"""A span counts as seen whole where its last singular value is so many times the next one."""
ROUNDING = 5e-7
"""Share of the largest singular value below which the next one must be: rounding of float32 gives a tenth of it, while
inputs that are nearly dependent, and what compression leaves behind, give more."""
ANEW = 1e-5
"""Relative distance that an input may have which is computed anew, in float32 and another order of sums."""
DEPENDENT = 1e-6
"""Singular values below this share of the largest say that inputs are linearly dependent."""


@dataclass(frozen=True)
class Span:
    """What is known of the span of the inputs that some layers have in common.

    Attributes:
        layers: that receive these inputs.
        basis: orthonormal columns, the surest first, float64 (width, k).
        certainty: of each column: 1 in a gradient without noise, 0 where it is nothing but noise; (k,).
        exact: whether what was seen of the gradient is exact but for noise: no signs, cells, or few entries of many.
        complete: whether every input of the batch lies in the span, up to `tolerance`.
        tolerance: relative distance from the span up to which a vector counts as lying in it.
    """

    layers: tuple[LinearLayer, ...]
    basis: Tensor = field(repr=False)
    certainty: Tensor = field(repr=False)
    exact: bool
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


def span(layers: Sequence[LinearLayer], measurement: Measurement, most: int) -> Span | None:
    """The span of the inputs that layers of one group receive; None where nothing of it was seen, or all directions.

    Its dimension is where the singular values drop to rounding, by the factor `DROP` or more, among the first `most`.
    Distances follow from the drop: where ∂W is seen with an error E, an input is at most ‖E‖ / σ_k away from the span
    of the first k singular vectors (Wedin's bound), and ‖E‖ is about σ_{k+1}.

    Otherwise the span is not seen whole (as many vectors as were sent, fewer than tokens), or through noise. Then the
    first `most` vectors are taken, each as certain as it stands out from those behind them.

    Args:
        most: tokens that the batch has at most.
    """
    sent = [(layer, measurement[layer.weight]) for layer in layers if layer.weight in measurement]
    pairs = [(columns(layer, terms), sharp(terms)) for layer, terms in sent]
    # Queries and keys of an untrained network have much smaller slopes than values, and are seen as sharply.
    vectors = [(each / each.norm()).cpu() for each, _ in pairs if bool(each.isfinite().all() and each.any())]
    if not vectors:
        return None
    left, sizes, _ = torch.linalg.svd(torch.cat(vectors, 1), full_matrices=False)
    exact = all(precise for _, precise in pairs)
    above = sizes > torch.finfo(torch.float32).eps * sizes[0]
    ratios = sizes[:-1] / sizes[1:].clamp_min(torch.finfo(sizes.dtype).eps * sizes[0])
    drops = ((ratios >= DROP) & above[:-1] & (sizes[1:] <= ROUNDING * sizes[0]))[:most].nonzero()[:, 0]
    if exact and len(drops):
        count = int(drops[-1]) + 1
        tolerance = ANEW + 2 / float(ratios[count - 1])
        return Span(tuple(layers), left[:, :count], sizes.new_ones(count), True, True, tolerance)
    count = min(most, int(above.sum()))
    if count == len(left):
        return None
    # Where fewer vectors were seen than there are tokens, none is left to tell noise from.
    noise = sizes[most:].square().mean() if len(sizes) > most else sizes.new_zeros(())
    certainty = (1 - noise / sizes[:count].square()).clamp_min(0)
    return Span(tuple(layers), left[:, :count], certainty, exact, False, 1.0)


def columns(layer: LinearLayer, terms: Sequence[Term]) -> Tensor:
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


def sharp(terms: Sequence[Term]) -> bool:
    """Whether what was sent is exact: the gradient itself, or a sketch; no signs, cells or entries alone."""
    return any(isinstance(t, LeftSketch | RightSketch) or type(t) is Dense for t in terms)
