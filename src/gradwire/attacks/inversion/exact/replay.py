"""Whether an answer explains what was sent: its own gradient is computed and measured as the victim's was."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from gradwire.attacks.inversion.exact.matrices import whole
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Problem
from gradwire.engine import Engine, engine
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy


@dataclass(frozen=True)
class CheckedAnswer:
    """Inputs (B, *shape), their targets (B, …), and the share of what was sent, ‖A(G) − y‖² / ‖y‖², that is left."""

    inputs: Tensor
    targets: Tensor
    off: float


@dataclass(frozen=True)
class Replay:
    """Runs answers through the victims' network.

    Attributes:
        problems: that share a model, a mode and a shape.
        layer: the network's first layer, if it is a linear one: whose target is whose follows from its slopes.
    """

    problems: Sequence[Problem]
    layer: FirstLayer | None
    device: str = field(default="cpu")

    @cached_property
    def _match(self) -> Match:
        return Match.of(self.problems, self.device)

    @cached_property
    def _single(self) -> Engine:
        view = self.problems[0].view
        return engine(view.model, view.mode, view.task, 1, self.device)

    def answer(self, number: int, inputs: Tensor) -> CheckedAnswer:
        """The inputs (B, *shape) of a problem's victim, within the domain, each beside its target.

        Raises:
            GradwireError: targets that nobody knows, or a network that cannot be run again.
        """
        problem = self.problems[number]
        rows = problem.view.task.domain.snapped(inputs.float())
        if len(rows) > 1 and self.layer is not None:
            rows, targets = self._paired(problem, rows, self.layer)
        else:
            targets = problem.targets
        match = self._match.select([number])
        distance = match.distance(rows[None].to(self.device), targets[None].to(self.device))
        off = float((distance / match.stack.energy).detach())
        return CheckedAnswer(rows, targets.cpu(), off if off == off else torch.inf)

    def _paired(self, problem: Problem, rows: Tensor, layer: FirstLayer) -> tuple[Tensor, Tensor]:
        """Rows (B, *shape) in the order of the known targets; or, if these were inferred, with those that fit best.

        The slopes of the layer are Δ = ∂W·X⁺; a row with its own target gives its column.
        """
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

        view = problem.view
        weight = whole(problem.measurement[layer.weight], view.model.get_parameter(layer.weight).shape, len(rows))
        if weight is None or not problem.targets.numel():
            return rows, problem.targets
        due, places = torch.unique(problem.targets.cpu(), dim=0, return_inverse=True)
        inferred = view.targets is None and view.task.loss.name == CrossEntropy.name
        if inferred:
            due = torch.arange(view.task.logits(view.model, rows[:1].to(next(view.model.parameters()))).shape[1])
        pairs = [(row, target) for row in rows for target in due]
        inputs, targets = (torch.stack(each)[:, None].to(self.device) for each in zip(*pairs, strict=True))
        try:
            gradients = self._single.gradients(inputs, targets)
        except GradwireError:  # such as batch norm, under which no example has a gradient of its own
            return rows, problem.targets
        alone = gradients[layer.bias].full().detach().double().cpu().unflatten(0, (len(rows), len(due))) / len(rows)
        slopes = (weight.cpu() @ torch.linalg.pinv(layer.entered(rows.double()))).mT
        cost = (slopes[:, None] - alone).square().sum(2)
        if inferred:
            order = cost.argmin(1).argsort(stable=True)
            return rows[order], due[cost.argmin(1)][order]
        slots, chosen = linear_sum_assignment(cost[:, places].mT.numpy())
        return rows[torch.from_numpy(chosen)[torch.from_numpy(slots).argsort()]], problem.targets
