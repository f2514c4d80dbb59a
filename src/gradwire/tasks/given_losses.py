"""Losses that come from outside: one that the network reports, and a user's function; and losses by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError, unknown
from gradwire.registry import LOSSES
from gradwire.tasks.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, NextToken, TaskLoss


@dataclass(frozen=True)
class GivenLoss(TaskLoss):
    """A loss that is computed elsewhere, with the targets of a known one.

    Attributes:
        like: the loss whose targets it takes: they are checked, derived, sampled and measured as that one's.
    """

    like: TaskLoss = field(default_factory=CrossEntropy)

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """As many as the loss that it is like."""
        return self.like.outputs

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the loss that it is like."""
        return self.like.classes

    @property
    def measured(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the loss that it is like."""
        return self.like.measured

    @property
    def from_inputs(self) -> bool:  # type: ignore[override]
        """As the loss that it is like."""
        return self.like.from_inputs

    def check(self, targets: Tensor, batch: int) -> None:
        """As the loss that it is like."""
        self.like.check(targets, batch)

    def derived(self, inputs: Tensor) -> Tensor:
        """As the loss that it is like."""
        return self.like.derived(inputs)

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """As the loss that it is like."""
        return self.like.sample(*size, random=random)

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """As the loss that it is like."""
        return self.like.measures(output, targets)


@dataclass(frozen=True)
class Reported(GivenLoss):
    """The loss that a network reports itself (`output.loss`), as models of `transformers` do when given `labels`."""

    name: ClassVar[str] = "reported"
    reported: ClassVar[bool] = True

    @property
    def probabilities(self) -> bool:  # type: ignore[override]
        """As the loss that it is like."""
        return self.like.probabilities

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """What the network says."""
        found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if not isinstance(found, Tensor):
            kind = type(output).__name__
            raise GradwireError(f"model gives a {kind} without a loss; name another loss than 'reported'")
        return found


@dataclass(frozen=True, kw_only=True)
class OwnLoss(GivenLoss):
    """A user's function of the network's output, as it comes, and the targets; it gives a scalar.

    Attributes:
        of: the function.
    """

    name: ClassVar[str] = "own"

    of: Callable[[Any, Tensor], Tensor]

    @property
    def takes_fewer(self) -> bool:  # type: ignore[override]
        """Not of tokens, which its user counts on."""
        return not self.from_inputs

    def check(self, targets: Tensor, batch: int) -> None:
        """One target an input; what they are is its user's business."""
        TaskLoss.check(self, targets, batch)

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """As the loss that it is like, where the output holds what that one measures; otherwise nothing."""
        try:
            return self.like.measures(output, targets)
        except GradwireError:
            return {}

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The function's value, a scalar."""
        value = self.of(output, targets)
        if not isinstance(value, Tensor) or value.ndim:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise GradwireError(f"loss {self.of.__name__} gives {found}; it must give a scalar")
        return value


def parse_loss(spec: str, like: TaskLoss) -> TaskLoss:
    """The loss that a spec names: the data set's own (""), `reported`, another built-in, or `package.module:function`.

    Args:
        like: the data set's own.

    Raises:
        GradwireError: an unknown loss, a function that cannot be imported, or a loss that the targets do not suit.
    """
    if spec in ("", like.name):
        return like
    if spec == Reported.name:
        return Reported(like)
    if ":" in spec or spec in LOSSES:
        return OwnLoss(like, of=LOSSES.find(spec)[0])
    known = (CrossEntropy.name, MeanSquaredError.name, BinaryCrossEntropy.name, NextToken.name)
    if spec not in known:
        raise unknown("loss", spec, (*known, Reported.name, "or package.module:function"))
    raise GradwireError(f"loss is {spec!r}; the targets of these data suit {like.name!r}")
