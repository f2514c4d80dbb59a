"""APRIL: all patches of an image that enters a vision transformer, in closed form.

J. Lu, X. S. Zhang, T. Zhao, X. He, J. Cheng, "APRIL: Finding the Achilles' heel on privacy for vision transformers",
CVPR 2022. A patch embedding z_p = W·u_p + b is followed by a learned position embedding that is added to it,
so that the latter's gradient is the slope δ_p at z_p. For one image ∂W = Σ δ_p·u_pᵀ is then a linear system for the
patches u_p. What it determines of them depends on the rank of the slopes and, through a compressed wire, on what was
sent of ∂W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known
from gradwire.attacks.inversion.exact.closed_form import Solution
from gradwire.attacks.inversion.exact.embedding import PatchEmbedding
from gradwire.attacks.inversion.exact.matrices import as_sent, sketches, whole
from gradwire.attacks.inversion.first_layer import read
from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.schemes.measurement import LeftSketch, RightSketch, Term
from gradwire.wire import View

INDEPENDENT = 1e-6
"""Singular values below this share of the largest are those of rounding in float32."""


@dataclass(frozen=True)
class April:
    """Solve for the patches behind an embedding."""

    name: ClassVar[str] = "april"

    embedding: PatchEmbedding

    @classmethod
    def of(cls, view: View) -> "April":
        """For a view's network; GradwireError where its batch or its layers are others."""
        if view.shape[0] > 1:
            raise GradwireError(f"april reads the patches of one image; the batch has {view.shape[0]}")
        return cls(PatchEmbedding.of(view))

    def solution(self, problem: Problem, random: torch.Generator) -> Solution:
        """The image; where what was sent does not determine its patches, one of those that fit (`solved`).

        Raises:
            GradwireError: nothing that can be read was sent of one of the layers.
        """
        model, found = problem.view.model, self.embedding
        slopes, known = _slopes(problem.measurement.get(found.position, ()), model.get_parameter(found.position).shape)
        delta = slopes[found.places]
        terms = problem.measurement.get(found.weight, ())
        width = model.get_parameter(found.weight)[0].numel()
        if not terms or not bool(delta.any()):
            missing = found.position if terms else found.weight
            raise GradwireError(f"april finds nothing of the gradient of {missing!r} in what was sent")
        entered, determined = solved(delta, terms, width)
        image = found.entrance.undone(entered.flatten(), nothing_known(problem.view.task.domain))[None]
        told = f"{determined:,} of {entered.numel():,} numbers of the patches are determined"
        if not known:
            told = f"{found.position!r} was sent in part, its other entries are taken for zero"
        return Solution(image, known and determined == entered.numel() and found.entrance.whole, told)


def solved(slopes: Tensor, terms: Sequence[Term], width: int) -> tuple[Tensor, int]:
    """Patches U (P, k) with Δᵀ·U = ∂W, Δ being `slopes` (P, D), as far as terms tell ∂W (of entries: of least norm).

    Returns:
        U, and how many of its P·k numbers are determined by as many equations.
    """
    count, dimension = slopes.shape
    sent = next((term for term in terms if as_sent(term)), None)
    if sent is not None:
        inverse, rank = _inverse(slopes.mT)
        return inverse @ sent.observed[0].double().cpu().reshape(dimension, width), rank * width
    right, left = sketches(terms)
    if right is not None or left is not None:
        return _from_sketches(slopes, right, left, width)
    known = read(terms, (dimension, width))
    if known is None:
        raise GradwireError("april reads entries and sketches of a gradient; neither was sent")
    found, determined = torch.zeros(count, width, dtype=torch.float64), 0
    for column in known.known.any(0).nonzero()[:, 0].tolist():
        rows = known.known[:, column]
        inverse, rank = _inverse(slopes.mT[rows])
        found[:, column], determined = inverse @ known.values[rows, column], determined + rank
    return found, determined


def _from_sketches(
    slopes: Tensor, right: RightSketch | None, left: LeftSketch | None, width: int
) -> tuple[Tensor, int]:
    """As `solved`. Of a left sketch follow r combinations of the patches, of a right one r of their columns.

    ∂Wᵀ·P = Uᵀ·(Δ·P) is linear in U, and so is U·Q = (Δᵀ)⁺·(∂W·Q). Of all U that fit, the one nearest to what the
    decoded update P·Pᵀ∂W gives is taken: it is nearer to the truth, which fits as well.
    """
    count = len(slopes)
    found, free, determined = slopes.new_zeros(count, width), torch.eye(count, dtype=slopes.dtype), 0
    if left is not None:
        p, observed = left.left[0].double().cpu(), left.observed[0].double().cpu().mT
        found = _inverse(slopes.mT)[0] @ _inverse(p)[0].mT @ observed
        equations = (slopes @ p).mT
        inverse, rank = _inverse(equations)
        found, free = found + inverse @ (observed - equations @ found), free - inverse @ equations
        determined = rank * width
    if right is not None:
        q, triangle = torch.linalg.qr(right.right[0].double().cpu())
        inverse, rank = _inverse(slopes.mT)
        told = inverse @ right.observed[0].double().cpu() @ _inverse(triangle)[0]
        found = found + free @ (told - found @ q) @ q.mT
        determined += (rank - determined // width) * q.shape[1]
    return found, determined


def _slopes(terms: Sequence[Term], shape: torch.Size) -> tuple[Tensor, bool]:
    """A parameter's gradient, flat, zero where nothing is known of it, and whether all of it is known."""
    gradient = whole(terms, shape)
    if gradient is not None:
        return gradient.cpu().flatten(), True
    entries = read(terms, (shape[0], shape[1:].numel()) if len(shape) > 1 else shape)
    return (torch.zeros(shape.numel(), dtype=torch.float64) if entries is None else entries.values.flatten()), False


def _inverse(matrix: Tensor) -> tuple[Tensor, int]:
    """The pseudo-inverse with directions of rounding left out, and its rank."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((s > INDEPENDENT * s[:1]).sum())
    return (v[:kept].mT / s[:kept]) @ u[:, :kept].mT, kept
