"""SPEAR and SPEAR++: a whole batch behind a linear layer and a ReLU, exactly, from one gradient.

- D. I. Dimitrov, M. Baader, M. N. Müller, M. Vechev, "SPEAR: Exact gradient inversion of batches in federated
  learning", NeurIPS 2024.
- A. Bakarsky, D. I. Dimitrov, M. Baader, M. Vechev, "SPEAR++: Scaling gradient inversion via sparsely-used dictionary
  learning", 2025.

A layer z = W·x + b has ∂W = Δ·X over a batch: column i of Δ (n, B) is the slope at z of example i, row i of X (B, m)
its input. ∂W has rank B, so that any factors L·R of it are those sought up to an unknown matrix Q (B, B): Δ = L·Q and
X = Q⁻¹·R. A ReLU makes about half of each column of Δ zero, and hardly any other combination of L's columns has as
many zeros. So Q's columns are the directions q in which L·q is sparse. How they are found is `directions`: by sampling rows
that may vanish together (SPEAR), or as a dictionary is learned (SPEAR++). ∂b = Σ Δ's columns gives their lengths.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known
from gradwire.attacks.inversion.exact.directions import ZERO, deflated, learned, sampled
from gradwire.attacks.inversion.exact.matrices import rank, whole
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.wire import View

SAMPLED = 9
"""The largest batch whose directions are sampled first: one sample in 2⁸ holds one."""
FIRST, AGAIN = 4, 12
"""Rounds of sampling before directions are learned, and how often, of these, they are learned from all rows."""
INDEPENDENT = 1e-3
"""A direction of unit length that is farther from the span of others is another one."""
DEAD = 1e-6
"""Rows of ∂W below this share of the largest are those of units that no example activates."""
PATIENCE = 6
"""The search ends after so many rounds, and one more an example, in which no zero was gained."""
AGREE = 0.99
"""The share of an example's slopes that must be zero where its ReLU is: near the kink rounding decides."""


@dataclass(frozen=True)
class Factors:
    """∂W = L·R of rank k, with orthonormal columns of L (n, k), R (k, m), and ∂b (n,); float64."""

    left: Tensor
    right: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, most: int, dtype: torch.dtype) -> "Factors":
        """Factors of ∂W (n, m), computed in `dtype`, of as high a rank as is no rounding, and no more than `most`."""
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        k = min(most, rank(weight.to(dtype)))
        return cls(u[:, :k], s[:k, None] * v[:k], bias)

    def rows(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Δ (n, k) and X (k, m), the directions being the columns of Q but for their lengths, (k, k)."""
        lengths = torch.linalg.solve(directions, self.left.mT @ self.bias)
        # A length of zero says that the slopes of an example cancel, and nothing of its input.
        scaled = directions * torch.where(lengths == 0, torch.ones_like(lengths), lengths)
        return self.left @ scaled, torch.linalg.solve(scaled, self.right)


@dataclass(frozen=True)
class Spear:
    """Find the sparse directions.

    Attributes:
        rounds: how often further directions are sought, at most.
    """

    name: ClassVar[str] = "spear"

    layer: FirstLayer
    rounds: int = 60

    @classmethod
    def of(cls, view: View) -> "Spear":
        """For a view's network; GradwireError where its batch is one input or its first layer is another."""
        if view.shape[0] < 2:
            raise GradwireError("spear tells the inputs of a batch apart; this is one input")
        return cls(FirstLayer.of(view.model, view.task, view.mode, view.shape))

    def inputs(self, problem: Problem, random: torch.Generator) -> tuple[Tensor, str]:
        """The batch (B, *shape), as far as it was found, and how far in words.

        Raises:
            GradwireError: as `rows`.
        """
        rows, _, agree = self.rows(problem, random)
        found = nothing_known(problem.view.task.domain, problem.view.shape[0]).double()
        found[: len(rows)] = self.layer.undone(rows, problem.view.shape)
        right = int((agree >= AGREE).sum())
        return found, f"the slopes of {right} of {len(found)} inputs vanish where their ReLUs are off"

    def rows(self, problem: Problem, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the layer (k, m), their slopes Δ (n, k) and how these agree with the ReLU (k,), for ∂W of rank k.

        Raises:
            GradwireError: less was sent than the whole gradient of the layer; no sparse directions as many as its rank.
        """
        batch, model = problem.view.shape[0], problem.view.model
        parameter = model.get_parameter(self.layer.weight)
        weight = whole(problem.measurement.get(self.layer.weight, ()), parameter.shape, batch)
        bias = whole(problem.measurement.get(self.layer.bias, ()), parameter.shape[:1])
        if weight is None or bias is None:
            raise GradwireError(
                f"spear needs all of the gradient of {self.layer.weight!r} and its bias; a part was sent"
            )
        dtype = problem.measurement[self.layer.weight][0].observed.dtype
        factors = Factors.of(weight, bias, batch, dtype)
        sizes = weight.norm(dim=1)
        live = factors.left[sizes > DEAD * sizes.max()]
        k = factors.left.shape[1]
        if k == 0 or len(live) <= k:
            raise GradwireError(f"spear needs more rows with slopes than examples; {len(live)} hold a rank of {k}")
        network = {name: p.detach().cpu().double() for name, p in model.named_parameters()}
        found = torch.empty(0, k, dtype=torch.float64)
        answer: tuple[Tensor, Tensor, Tensor] | None = None
        most = gained = 0
        for number in range(self.rounds):
            found, zeros = sparsest(torch.cat([found, _more(live, found, number, random)]), live)
            most, gained = (zeros, number) if zeros > most else (most, gained)
            if number - gained > PATIENCE + k:
                break
            if len(found) < k:
                continue
            slopes, inputs = factors.rows(found.mT)
            outputs = inputs @ network[self.layer.weight].mT + network[self.layer.bias]
            answer = inputs, slopes, agreement(slopes, outputs)
            if bool((answer[2] >= AGREE).all()):
                break
        if answer is None:
            raise GradwireError(f"spear finds {len(found)} of {k} directions in which slopes vanish as behind a ReLU")
        return answer


def sparsest(directions: Tensor, left: Tensor) -> tuple[Tensor, int]:
    """Of directions (C, k), those with the most zeros in L·q, one after another, while they are independent.

    Returns:
        at most k directions, and the zeros of all of them.
    """
    slopes = (directions @ left.mT).abs()
    zeros = (slopes <= ZERO * slopes.amax(1, keepdim=True)).sum(1)
    chosen: list[int] = []
    rest = directions.clone()
    for _ in range(directions.shape[1]):
        left_over = torch.where(rest.norm(dim=1) > INDEPENDENT, zeros, -1)
        if not len(zeros) or int(left_over.max()) < 0:
            break
        chosen.append(int(left_over.argmax()))
        along = rest[chosen[-1]] / rest[chosen[-1]].norm()
        rest = rest - torch.outer(rest @ along, along)
    return directions[chosen], int(zeros[chosen].sum())


def agreement(slopes: Tensor, outputs: Tensor) -> Tensor:
    """For each example the share of slopes (n, k) that are zero where outputs (k, n) of the layer are not positive.

    Rows in which no example has a slope tell nothing: the unit behind may lead nowhere.
    """
    zero = slopes.abs() <= ZERO * slopes.abs().amax(0)
    told = ~zero.all(1)
    return ((outputs.mT <= 0) == zero)[told].double().mean(0)


def _more(live: Tensor, found: Tensor, number: int, random: torch.Generator) -> Tensor:
    """Directions of the search's round `number`: by SPEAR, while few examples leave a chance, and then by SPEAR++."""
    k = live.shape[1]
    if k <= SAMPLED and number < FIRST:
        return sampled(live, random)
    if 2 * len(found) < k or number % AGAIN == 0:
        return learned(live, random)
    return deflated(live, found[int(torch.randint(len(found), (), generator=random))], random)
