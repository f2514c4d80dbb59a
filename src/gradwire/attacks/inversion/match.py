"""Many problems attacked as one, and the terms that objectives are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem
from gradwire.attacks.inversion.statistics import Statistics, sent
from gradwire.attacks.inversion.unsent import Unsent
from gradwire.engine import Engine, arithmetic, engine
from gradwire.errors import GradwireError
from gradwire.schemes import StackedMeasurement
from gradwire.schemes.gradients import Gradient, Mean

EPSILON = 1e-12


def cosine(inner: Tensor, square: Tensor, energy: Tensor) -> Tensor:
    """1 − ⟨A(G), y⟩ / (‖A(G)‖·‖y‖), shape (V,). Geiping et al. 2020, eq. 4, over all parameters at once."""
    return 1 - inner / (square * energy).clamp_min(EPSILON**2).sqrt()


def total_variation(images: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring pixels, down plus across, a victim: (V, …, C, H, W) → (V,).

    Images of one row of pixels have no neighbours down, and those of one column none across: that part is zero.
    """
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().flatten(1)
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().flatten(1)
    return sum((each.mean(1) for each in (down, across) if each.shape[1]), images.new_zeros(len(images)))


@dataclass(frozen=True)
class Match:
    """What candidates of V rows (a victim and restart each) are compared with.

    Attributes:
        problems: one a row; they share a model, a mode and a shape. Rows of one victim follow one another.
        targets: shape (V, B, …).
    """

    problems: tuple[Problem, ...]
    stack: StackedMeasurement
    targets: Tensor

    @classmethod
    def of(cls, problems: Sequence[Problem], device: str, sought: bool = False) -> "Match":
        """Join problems.

        Args:
            sought: whether the attack seeks targets of its own, and uses none of the problems'.

        Raises:
            GradwireError: targets that are not known and could not be inferred, and why.
        """
        reasons = (problem.inferred.reason for problem in problems if problem.inferred is not None)
        if not sought and (reason := next(filter(None, reasons), "")):
            raise GradwireError(f"{reason}; say that they are known")
        targets = torch.stack([problem.targets for problem in problems]).to(device)
        like = torch.empty(0, dtype=arithmetic(problems[0].view.model), device=device)
        return cls(tuple(problems), StackedMeasurement.of([problem.measurement for problem in problems], like), targets)

    def select(self, rows: Sequence[int]) -> "Match":
        """Some of the rows, each as often as it is named, with the same engine."""
        places = torch.tensor(rows, device=self.targets.device)
        problems = tuple(self.problems[row] for row in rows)
        found = Match(problems, self.stack.select(places), self.targets[places])
        vars(found).update(engine=self.engine, unsent=self.unsent.select(places))
        return found

    @cached_property
    def engine(self) -> Engine:
        """The gradient of each row's batch; where several clients' inputs are sought, the mean of their gradients."""
        view, clients = self.problems[0].view, len(self.problems[0].clients)
        single = engine(view.model, view.mode, view.task, view.shape[0] // clients, str(self.targets.device))

        def means(inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
            each = single.gradients(*(t.unflatten(1, (clients, -1)).flatten(0, 1) for t in (inputs, targets)))
            return {name: Mean(gradient, clients) for name, gradient in each.items()}

        return single if clients == 1 else replace(single, run=means)

    @cached_property
    def steps(self) -> Engine:
        """What the local steps of each row's client change: old − new parameters."""
        view = self.problems[0].view
        return engine(view.model, view.mode, view.task, view.shape[0], str(self.targets.device), view.work)

    @cached_property
    def statistics(self) -> Statistics:
        """The batch-norm statistics of each victim's images: those that it sent, or else the model's."""
        views = [problem.view for problem in self.problems]
        return Statistics(views[0].model, views[0].task, views[0].mode, str(self.targets.device), sent(views))

    def numbers(self, each: tuple[float, ...]) -> Tensor:
        """A number for each row as a tensor (V,), made once: to make it in every iteration keeps a card waiting."""
        if each not in self._numbers:
            self._numbers[each] = torch.tensor(each).to(self.stack.energy)
        return self._numbers[each]

    @cached_property
    def _numbers(self) -> dict[tuple[float, ...], Tensor]:
        return {}

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the most that inputs can be, each of shape () or that of an input."""
        low, high = (
            torch.as_tensor(bound).to(self.stack.energy) for bound in self.problems[0].view.task.domain.bounds()
        )
        return low, high

    @cached_property
    def unsent(self) -> Unsent:
        """What is known of the entries that were not sent."""
        return Unsent.of(self.problems, self.stack.energy)

    @cached_property
    def later(self) -> tuple["Match", ...]:
        """The same rows in each of the rounds that follow."""
        rounds = zip(*(problem.later for problem in self.problems), strict=True)
        return tuple(Match.of(problems, str(self.targets.device)) for problems in rounds)

    def gradients(self, inputs: Tensor, targets: Tensor | None = None) -> Mapping[str, Gradient]:
        """The gradients of candidates (V, B, *shape).

        Args:
            targets: instead of the problems' own, such as labels (V, B), or probabilities (V, B, classes).
        """
        return self.engine.gradients(inputs, self.targets if targets is None else targets)

    def held(self, inputs: Tensor) -> Tensor:
        """The victim's own among candidates (V, B, *shape), where several clients' inputs are sought."""
        return inputs[:, : inputs.shape[1] // len(self.problems[0].clients)]

    def total(self, inputs: Tensor, of: Callable[[Tensor], Tensor], targets: Tensor | None = None) -> Tensor:
        """Σ over terms of a function of A(G) − y at candidates, shape (V,): see `StackedMeasurement.total`."""
        return self.stack.total(self.gradients(inputs, targets), of)

    def distance(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """‖A(G) − y‖² of candidates, shape (V,), for objectives that must be exact where it is small."""
        return self.stack.distance(self.gradients(inputs, targets))
