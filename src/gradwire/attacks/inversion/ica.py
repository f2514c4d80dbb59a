"""The cocktail party attack: a batch, or a sum of many clients' batches, unmixed from a first linear layer's gradient.

S. Kariyappa et al., "Cocktail party attack: Breaking aggregation-based privacy in federated learning using independent
component analysis", ICML 2023. A layer y = W·x + b has ∂W = Σ δ·xᵀ: every row is a mixture of the N inputs, as every
microphone of a party hears a mixture of voices. The rows are centred and whitened, and an unmixing matrix
is sought whose images are far from Gaussian (negentropy by log cosh, A. Hyvärinen, "Fast and robust fixed-point
algorithms for independent component analysis", 1999), smooth (total variation), and no two of them alike.

The paper leaves each image's sign and scale open. Here the bias tells them: the same mixture of ∂b = Σ δ is the image's
share, x = (v·∂W)/(v·∂b). Two more terms follow from that. An unmixed image must lie within its domain; means of true
images do, and of these the true ones have the most contrast, the least share of a source of variance one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.analytic import nothing_known, readable
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.match import total_variation
from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem, Specified
from gradwire.errors import check_counts, not_negative, positive
from gradwire.progress import Progress, silent
from gradwire.seeds import generator
from gradwire.tasks import Domain, Pixels

RANK = 1e-6
"""Singular values below this share of the largest are rounding."""
GAUSSIAN = 0.374567
"""E[log cosh z] of a standard normal z."""


@dataclass(frozen=True)
class ICA(Specified):
    """Minimise a mean over sources s_i: −negentropy + tv·TV + alike·Σ_j exp(sharpness·(|cos(s_i, s_j)| − 1)), and more.

    To these, the paper's, whose weights fade, outside·(share beyond the domain) + contrast·log|share| are added, which
    make the answers exact.

    Attributes:
        iterations: steps of Adam on the unmixing matrix, whose rows are kept at length one.
        restarts: independent starts; the one with the lowest value is the answer.
        step: Adam's step size, which falls along a half cosine.
        tv: the weight of total variation, of pictures alone.
        alike: the weight of sources that are alike. Images of a batch have much in common, which a low one allows; a
            lower one lets rows find one image twice.
        sharpness: how near to each other sources must be for that.
        outside: the weight of what lies beyond the domain, and `contrast`, of the logarithm of an image's share.
        fade: what is left of the paper's terms at the end.
    """

    name: ClassVar[str] = "ica"

    iterations: int = 1000
    restarts: int = 2
    step: float = 0.05
    tv: float = 1.0
    alike: float = 0.5
    sharpness: float = 6.0
    outside: float = 10.0
    contrast: float = 0.3
    fade: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self.name, self, "iterations", "restarts")
        positive(self.name, self, "step", "fade")
        not_negative(self.name, self, "tv", "alike", "sharpness", "outside", "contrast")

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems one by one, on the CPU in float64; no checkpoint is written.

        Returns:
            inputs within the domain, those that lie least outside it first.

        Raises:
            GradwireError: the model's first layer with parameters is not a linear layer that receives single numbers.
        """
        view = problems[0].view
        layer = FirstLayer.of(view.model, view.task, view.mode, view.shape)
        domain = view.task.domain
        inputs = nothing_known(domain, len(problems), view.shape[0])
        objective = torch.full((len(problems),), float("inf"))
        notes = {f"inputs of {layer.weight.removesuffix('.weight')} unmixed by independent components": None}
        notes |= {f"{self.name} {note}": None for note in problems[0].left_aside()}
        for number, problem in enumerate(problems):
            mixed, as_sent = mixtures(problem, layer)
            if not as_sent:
                notes[f"{self.name} reads what {problem.view.scheme} decodes to: not all entries were sent"] = None
            if mixed is not None:
                if len(mixed.whitened) < view.shape[0]:
                    found = f"{problem.view.scheme} shows mixtures of rank {len(mixed.whitened)}"
                    notes[f"{found}; {view.shape[0]} inputs cannot be told apart in them"] = None
                found_inputs, objective[number] = self.unmixed(mixed, domain, seed, problem.salt)
                inputs[number, : len(found_inputs)] = domain.snapped(found_inputs.float())
            progress(ATTACKING, (number + 1) * self.iterations, len(problems) * self.iterations)
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        return Guess(inputs, targets, objective, self.iterations, int(objective.isinf().sum()), tuple(notes))

    def unmixed(self, mixed: "Mixtures", domain: Domain, seed: int, salt: int) -> tuple[Tensor, Tensor]:
        """The inputs (k, *shape) of k mixtures, and the value at them."""
        size = len(mixed.whitened)
        draws = (generator("ica", seed, salt, restart) for restart in range(self.restarts))
        squares = torch.stack([torch.randn(size, size, dtype=torch.float64, generator=draw) for draw in draws])
        start = torch.linalg.qr(squares)[0].requires_grad_()
        optimizer = torch.optim.Adam([start], self.step)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        for iteration in range(self.iterations if size > 1 else 0):
            optimizer.zero_grad()
            fade = self.fade ** (iteration / self.iterations)
            self.value(start, mixed, domain, fade).sum().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            values = self.value(start, mixed, domain, self.fade)
            best = int(values.argmin())
            inputs = mixed.inputs(start[best]).view(size, *domain.shape)
            order = (inputs - domain.snapped(inputs)).abs().flatten(1).mean(1).argsort()
        return inputs[order], values[best]

    def value(self, unmixing: Tensor, mixed: "Mixtures", domain: Domain, fade: float) -> Tensor:
        """What is minimised, (R,), at unmixing matrices (R, k, k): the mean over the k images."""
        rows = unmixing / unmixing.norm(dim=2, keepdim=True)
        sources = rows @ mixed.whitened
        value = -(log_cosh(sources).mean(2) - GAUSSIAN).square().mean(1)
        # Images of variance one each: their differences have one scale.
        if self.tv and isinstance(domain, Pixels):
            value = value + self.tv * total_variation(sources.unflatten(2, domain.shape))
        cosines = rows @ rows.mT  # of whitened sources, their correlations
        apart = 1 - torch.eye(rows.shape[1], dtype=rows.dtype)
        value = value + self.alike * (torch.exp(self.sharpness * (cosines.abs() - 1)) * apart).sum(2).mean(1)
        value = fade * value
        if self.contrast:
            value = value + self.contrast * (rows @ mixed.shares).abs().clamp_min(1e-9).log().mean(1)
        if self.outside:
            inputs = mixed.inputs(rows).unflatten(2, domain.shape)
            spread = inputs.detach().flatten(2).std(2).clamp_min(1e-6)
            beyond = (inputs - domain.snapped(inputs)).abs().flatten(2).mean(2)
            value = value + self.outside * (beyond / (beyond + spread)).mean(1)
        return value


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of inputs, float64.

    Attributes:
        whitened: (k, m): centred over an input's m numbers, of variance one and uncorrelated.
        whole: (k, m): the same mixtures with their means.
        shares: (k,): how much of inputs each of them holds in all.
    """

    whitened: Tensor
    whole: Tensor
    shares: Tensor

    def inputs(self, unmixing: Tensor) -> Tensor:
        """Inputs (…, k, m) by rows of unmixing matrices (…, k, k)."""
        share = unmixing @ self.shares
        safe = torch.where(share.abs() > 1e-9, share, 1e-9)
        return (unmixing @ self.whole) / safe[..., None]


def mixtures(problem: Problem, layer: FirstLayer) -> tuple[Mixtures | None, bool]:
    """As many mixtures as there are inputs, or as the gradient's rank allows, and whether all entries were sent."""
    (weight, bias), as_sent = readable(problem, layer)
    rows = layer.seen(weight.values, bias.values)
    if not (rows.isfinite().all() and rows.any() and bias.values.any()):
        return None, as_sent
    centred = rows - rows.mean(1, keepdim=True)
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    rank = min(problem.view.shape[0], int((sizes > RANK * sizes[0]).sum()))
    weights = rows.shape[1] ** 0.5 * left[:, :rank].mT / sizes[:rank, None]
    whitened = rows.shape[1] ** 0.5 * right[:rank]
    return Mixtures(whitened, weights @ rows, weights @ bias.values), as_sent and bool(weight.known.all())


def log_cosh(x: Tensor) -> Tensor:
    """Log cosh without overflow."""
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - 0.6931471805599453
