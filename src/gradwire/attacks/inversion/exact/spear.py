"""SPEAR and SPEAR++: a whole batch behind a linear layer and a ReLU, exactly, from one gradient.

- D. I. Dimitrov, M. Baader, M. N. Müller, M. Vechev, "SPEAR: Exact gradient inversion of batches in federated
  learning", NeurIPS 2024.
- A. Bakarsky, D. I. Dimitrov, M. Baader, M. Vechev, "SPEAR++: Scaling gradient inversion via sparsely-used dictionary
  learning", 2025.

A layer z = W·x + b has ∂W = Δ·X over a batch: column i of Δ (n, B) is the slope at z of example i, row i of X (B, m)
its input. ∂W has rank B, so that any factors L·R of it are those sought up to an unknown matrix Q (B, B): Δ = L·Q and
X = Q⁻¹·R. A ReLU makes about half of each column of Δ zero, and hardly any other combination of L's columns has as
many zeros. So Q's columns are the directions q in which L·q is sparse. How they are found is `directions`: by sampling
rows that may vanish together (SPEAR), or as a dictionary is learned (SPEAR++). ∂b = Σ Δ's columns gives their lengths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known
from gradwire.attacks.inversion.exact.closed_form import Solution
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
ZEROS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Shares of an example's largest slope below which others are the nearer to zero the more of these they are below."""
INDEPENDENT = 1e-3
"""A direction of unit length that is farther from the span of others is another one."""
DEAD = 1e-6
"""Rows of ∂W below this share of the largest are those of units that no example activates."""
PATIENCE = 6
"""The search ends after so many rounds, and one more an example, in which no zero was gained."""
REFINED, NEARLY = 3, 1e-2
"""How often directions are made more exact by what is off, and the greatest share of a slope that may be there."""
SAME = 1e-6
"""Two directions whose cosine is nearer to one are one."""
POOL = 6
"""Directions that are kept for each example."""
AGREE, SURE = 0.98, 0.99
"""The share of an example's slopes that must be zero where its ReLU is: near the kink rounding decides. And that from
which on no other direction is tried in its place."""


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
        """Δ (…, n, k) and X (…, k, m), the columns of Q but for their lengths being the rows of (…, k, k).

        What depends on each other has no Q⁻¹, and gives what is not finite or means nothing.
        """
        columns = directions.mT
        lengths = torch.linalg.solve_ex(columns, (self.left.mT @ self.bias).expand(columns.shape[:-1])[..., None])[0]
        scaled = columns * lengths.mT
        inputs = torch.linalg.solve_ex(scaled, self.right.expand(*scaled.shape[:-2], *self.right.shape))[0]
        return self.left @ scaled, inputs


FURTHER, PROMISING = 3, 0.9
"""Searches from other starts, while slopes agree with their ReLUs to so large a share in the mean, but not all do."""


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
    def of(cls, view: View, rounds: int = 60) -> "Spear":
        """For a view's network; GradwireError where its batch is one input or its first layer is another."""
        if view.shape[0] < 2:
            raise GradwireError("spear tells the inputs of a batch apart; this is one input")
        return cls(FirstLayer.of(view.model, view.task, view.mode, view.shape), rounds)

    def solution(self, problem: Problem, random: torch.Generator) -> Solution:
        """The batch as far as it was found; raises as `rows`."""
        rows, _, agree = self.rows(problem, random)
        for _ in range(FURTHER):
            if bool((agree >= AGREE).all()) or agree.mean() < PROMISING:
                break
            try:
                again, _, agrees = self.rows(problem, random)
            except GradwireError:  # this start leads nowhere; the answer at hand stays
                continue
            if agrees.mean() > agree.mean():
                rows, agree = again, agrees
        found = nothing_known(problem.view.task.domain, problem.view.shape[0]).double()
        found[: len(rows)] = self.layer.undone(rows, problem.view.shape)
        right = int((agree >= AGREE).sum())
        told = f"the slopes of {right} of {len(found)} inputs vanish where their ReLUs are off"
        return Solution(found, len(rows) == len(found), told)

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
        unit, offset = (
            model.get_parameter(name).detach().cpu().double() for name in (self.layer.weight, self.layer.bias)
        )

        def agree(directions: Tensor) -> Tensor:
            slopes, inputs = factors.rows(directions)
            return agreement(slopes, inputs @ unit.mT + offset)

        pool, found = torch.empty(0, k, dtype=torch.float64), torch.empty(0, k, dtype=torch.float64)
        most = gained = 0
        for number in range(self.rounds):
            pool, chosen, total = _ranked(torch.cat([pool, _more(live, found, number, random)]), live)
            found = pool[:chosen]
            most, gained = (total, number) if total > most else (most, gained)
            ends = number - gained > PATIENCE + k or number + 1 == self.rounds
            if len(found) == k and (gained == number or ends):
                found = swapped(found, pool, agree)
                if ends or bool((agree(found) >= AGREE).all()):
                    break
            elif ends:
                break
        if len(found) < k:
            raise GradwireError(f"spear finds {len(found)} of {k} directions in which slopes vanish as behind a ReLU")
        slopes, inputs = factors.rows(found)
        for _ in range(REFINED):
            again = refined(found, inputs @ unit.mT + offset, factors.left)
            better = factors.rows(again)
            if not better[1].isfinite().all():  # two of them became one: nothing follows from these
                break
            found, (slopes, inputs) = again, better
        if not inputs.isfinite().all():
            raise GradwireError(f"spear finds {k} directions that depend on each other, from which no inputs follow")
        return inputs, slopes, agree(found)


def _ranked(directions: Tensor, left: Tensor) -> tuple[Tensor, int, int]:
    """Of unit directions (C, k), those with the most zeros in L·q: first independent ones, then the others.

    An entry counts the more often the nearer to zero it is: slopes of one class are nearly proportional, and their
    difference has many that are nearly zero.

    Returns:
        directions, how many of them are independent, and the zeros of these.
    """
    slopes = (directions @ left.mT).abs()
    slopes = slopes / slopes.amax(1, keepdim=True)
    zeros = torch.stack([slopes <= share for share in ZEROS]).sum((0, 2))
    order = zeros.argsort(descending=True, stable=True)
    directions, zeros = directions[order], zeros[order]
    new = ~((directions @ directions.mT).abs().tril(-1) > 1 - SAME).any(1)
    directions, zeros = directions[new], zeros[new]
    first = independent(directions)
    others = [place for place in range(len(directions)) if place not in set(first)]
    kept = (first + others)[: POOL * left.shape[1]]
    return directions[kept], len(first), int(zeros[first].sum())


def independent(directions: Tensor) -> list[int]:
    """Which of directions (C, k) to take, one after another while they are independent: at most k."""
    chosen: list[int] = []
    rest = directions.clone()
    while len(chosen) < directions.shape[1]:
        far = (rest.norm(dim=1) > INDEPENDENT).nonzero()[:, 0]
        if not len(far):
            break
        chosen.append(int(far[0]))
        along = rest[chosen[-1]] / rest[chosen[-1]].norm()
        rest = rest - torch.outer(rest @ along, along)
    return chosen


def swapped(found: Tensor, pool: Tensor, agree: Callable[[Tensor], Tensor]) -> Tensor:
    """The directions (k, k), of which those that do not agree are replaced by others while more agree in the mean.

    The second stage of the paper's greedy choice, by what it calls the sparsity matching coefficient.
    """
    now, before = agree(found).nan_to_num(0), -1.0
    while float(now.mean()) > before:
        before = float(now.mean())
        for place in (now < SURE).nonzero()[:, 0].tolist():
            tried = found.repeat(len(pool), 1, 1)
            tried[:, place] = pool
            each = agree(tried).nan_to_num(0)
            best = int(each.mean(1).argmax())
            if each[best].mean() > now.mean():
                found, now = tried[best], each[best]
    return found


def refined(directions: Tensor, outputs: Tensor, left: Tensor) -> Tensor:
    """Directions (k, k) anew, each that of least ‖L·q‖ where the layer's outputs (k, n) say that its ReLU is off.

    One that does not agree with its outputs, so that hardly any or the wrong units are off, stays as it is.
    """
    off = outputs < -ZERO * outputs.abs().amax(1, keepdim=True)
    slopes = (directions @ left.mT).abs()
    vanish = (slopes * off).amax(1) <= NEARLY * slopes.amax(1)
    gram = torch.einsum("cn,ni,nj->cij", off.to(left), left, left)
    again = torch.linalg.eigh(gram)[1][..., 0]
    return torch.where((vanish & (off.sum(1) > len(directions)))[:, None], again, directions)


def agreement(slopes: Tensor, outputs: Tensor) -> Tensor:
    """For each example the share of slopes (…, n, k) that are zero where outputs (…, k, n) of the layer are negative.

    Rows in which no example has a slope tell nothing: the unit behind may lead nowhere. Directions that depend on each
    other, so that outputs are not finite, agree nowhere.
    """
    zero = slopes.abs() <= ZERO * slopes.abs().amax(-2, keepdim=True)
    told = ~zero.all(-1, keepdim=True)
    known = slopes.isfinite().all(-2, keepdim=True) & outputs.isfinite().all((-2, -1))[..., None, None]
    right = ((outputs.mT <= 0) == zero) & told & known
    return right.double().sum(-2) / told.sum(-2).clamp_min(1)


def _more(live: Tensor, found: Tensor, number: int, random: torch.Generator) -> Tensor:
    """Directions of the search's round `number`: by SPEAR, while few examples leave a chance, and then by SPEAR++."""
    k = live.shape[1]
    if k <= SAMPLED and number < FIRST:
        return sampled(live, random)
    if 2 * len(found) < k or number % AGAIN == 0:
        return learned(live, random)
    return deflated(live, found[number % len(found)], random)
