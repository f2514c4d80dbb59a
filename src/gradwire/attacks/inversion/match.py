"""Many problems as one: one engine for their shared model, their measurements in one stack, labels side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradwire.attacks.inversion.pooling import grouped
from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.statistics import Statistics, sent
from gradwire.engine import Engine, arithmetic, engine
from gradwire.schemes import StackedMeasurement
from gradwire.schemes.gradients import Gradient


@dataclass(frozen=True)
class Match:
    """What candidates of V rows (a victim and restart each) are held against.

    Attributes:
        problems: one a row; rows of one victim follow one another.
        labels: int64, shape (V, B).
    """

    problems: tuple[Problem, ...]
    stack: StackedMeasurement
    labels: Tensor

    @classmethod
    def of(cls, problems: Sequence[Problem], device: str) -> "Match":
        """Join problems that share a model, a mode and a shape."""
        labels = torch.stack([problem.labels for problem in problems]).to(device)
        like = torch.empty(0, dtype=arithmetic(problems[0].view.model), device=device)
        return cls(tuple(problems), StackedMeasurement.of([problem.measurement for problem in problems], like), labels)

    @cached_property
    def engine(self) -> Engine:
        """The gradients of one batch for each row."""
        view, clients = self.problems[0].view, len(self.problems[0].clients)
        shape = (view.shape[0] // clients, *view.shape[1:])
        return grouped(engine(view.model, view.mode, view.loss, shape, str(self.labels.device)), clients)

    @cached_property
    def steps(self) -> Engine:
        """What the local steps of each row's client change: old − new parameters."""
        view = self.problems[0].view
        return engine(view.model, view.mode, view.loss, view.shape, str(self.labels.device), view.work)

    @cached_property
    def statistics(self) -> Statistics:
        """What is known of the statistics of each victim's images: those that it sent, or else the model's."""
        views = [problem.view for problem in self.problems]
        return Statistics(views[0].model, views[0].mode, str(self.labels.device), sent(views))

    @cached_property
    def later(self) -> tuple["Match", ...]:
        """The same rows in each of the rounds that follow, for the attack that takes several."""
        rounds = zip(*(problem.later for problem in self.problems), strict=True)
        return tuple(Match.of(problems, str(self.labels.device)) for problems in rounds)

    def gradients(self, images: Tensor, labels: Tensor | None = None) -> Mapping[str, Gradient]:
        """What each row's client would have sent of these candidates.

        Args:
            images: shape (V, B, C, H, W).
            labels: instead of the problems' own: int64 (V, B), or probabilities (V, B, classes).
        """
        return self.engine.gradients(images, self.labels if labels is None else labels)

    def held(self, images: Tensor) -> Tensor:
        """The victim's own of candidates (V, B, C, H, W), where those of several clients are sought."""
        return images[:, : images.shape[1] // len(self.problems[0].clients)]

    def total(self, images: Tensor, of: Callable[[Tensor], Tensor], labels: Tensor | None = None) -> Tensor:
        """Σ over terms of a function of A(G) − y at candidates, shape (V,): see `StackedMeasurement.total`."""
        return self.stack.total(self.gradients(images, labels), of)

    def distance(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """‖A(G) − y‖² of candidates, shape (V,), for objectives that must be exact where it is small."""
        return self.stack.distance(self.gradients(images, labels))
