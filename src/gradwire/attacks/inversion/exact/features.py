"""What enters the last linear layer, read from its gradient: a feature of the inputs for others to match.

∂W = Σ δ·hᵀ and ∂b = Σ δ over the batch. One example's features h are any row of ∂W over its entry of ∂b (J. Geiping et
al., NeurIPS 2020, proposition 3.1); those of a batch lie in the span of the rows, as DAGER has it for tokens (I. Petrov
et al., NeurIPS 2024).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.exact.layers import TracedLayers
from gradwire.attacks.inversion.exact.matrices import rank, whole
from gradwire.attacks.inversion.problem import Problem


@dataclass(frozen=True)
class LastFeatures:
    """What is known of the inputs h of the layer that gives the logits.

    Attributes:
        layer: the name of its weight.
        single: the features of the one example, float64 (D,); None for a batch, or where they do not follow.
        basis: orthonormal rows (k, D), k ≤ B, in whose span the features of all examples lie that have a slope.
    """

    layer: str
    single: Tensor | None
    basis: Tensor

    def distance(self, features: Tensor) -> Tensor:
        """How far features (…, D) are from the span, relative to their lengths: (…), 0 to 1; differentiable."""
        basis = self.basis.to(features)
        off = features - features @ basis.mT @ basis
        return off.norm(dim=-1) / features.norm(dim=-1).clamp_min(torch.finfo(features.dtype).tiny)


def last_features(problem: Problem, layers: TracedLayers | None = None) -> LastFeatures | None:
    """The last layer's inputs; None where no linear layer gives the logits, or not all of its gradient was sent."""
    traced = TracedLayers.of(problem.view) if layers is None else layers
    if traced.head is None or problem.deviation:
        return None
    (name, bias), model, batch = traced.head, problem.view.model, problem.view.shape[0]
    terms = problem.measurement.get(name, ())
    weight = whole(terms, model.get_parameter(name).shape, traced.vectors.get(name))
    if weight is None or not bool(weight.any()):
        return None
    k = min(batch, rank(weight.to(terms[0].observed.dtype)))
    basis = torch.linalg.svd(weight, full_matrices=False)[2][:k]
    slopes = None if bias is None else whole(problem.measurement.get(bias, ()), model.get_parameter(bias).shape)
    single = None
    if batch == 1 and slopes is not None and bool(slopes.any()):
        row = slopes.abs().argmax()
        single = weight[row] / slopes[row]
    return LastFeatures(name, single, basis)
