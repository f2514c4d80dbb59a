"""Losses, with the targets that suit them and what training reports of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gradwire.errors import GradwireError
from gradwire.models.mode import logits

IGNORED = -100
"""The target of a position that does not count, as in PyTorch's cross-entropy."""


class TaskLoss(ABC):
    """A loss of a network's output, as it comes, and the targets of a batch.

    Attributes:
        name: its word in settings.
        outputs: how many numbers a network gives for one example; 0: as many as it likes.
        classes: names of the classes, where targets are classes.
        measured: names of the figures that `measures` gives.
        from_inputs: whether targets are made of the inputs, so that who guesses these knows them, too.
        reported: whether the network computes the loss itself, given the targets as `labels`.
        takes_fewer: whether the output may lack positions that are padding in the whole batch.
        probabilities: whether a softmax of the outputs gives the probability of each class.
    """

    name: ClassVar[str]
    from_inputs: ClassVar[bool] = False
    measured: ClassVar[tuple[str, ...]] = ()
    reported: ClassVar[bool] = False
    takes_fewer: bool = True
    probabilities: bool = False
    outputs: int = 0
    classes: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The mean loss of a batch: a scalar."""

    @property
    def each(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Of logits (B, outputs) and targets: one loss an example, (B,); None where the mean is no mean of examples."""
        return None

    def check(self, targets: Tensor, batch: int) -> None:
        """Refuse targets that do not suit a batch of so many inputs; by default, those that are not one an input."""
        if len(targets) != batch:
            raise GradwireError(f"{batch} inputs have {len(targets)} targets; each needs one")

    def suits(self, output: Any, targets: Tensor) -> None:  # noqa: B027 (most losses find out when they are computed)
        """Refuse a network whose output the loss cannot take with these targets."""

    def derived(self, inputs: Tensor) -> Tensor:
        """The targets that follow from inputs, where `from_inputs`."""
        raise GradwireError(f"targets of {self.name} do not follow from the inputs")

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Targets at random, for comparisons of an engine's paths."""
        return torch.randint(max(2, self.outputs), size, generator=random)

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """What training reports beside the loss: name → one figure an example, (B,)."""
        return {}


def matrix(output: Any, batch: int, least: int = 1) -> Tensor:
    """The logits (B, outputs) in what a network gives.

    Raises:
        GradwireError: there are none, or of another shape.
    """
    found = logits(output)
    if found.ndim != 2 or len(found) != batch or found.shape[1] < least:
        more = "classes), with two classes or more" if least > 1 else "outputs)"
        raise GradwireError(f"model gives shape {tuple(found.shape)} for {batch} inputs; it must be (inputs, {more}")
    return found


def counted(targets: Tensor, batch: int, *shape: int, whole: bool = True) -> None:
    """Refuse targets of another shape or type."""
    if targets.shape != (batch, *shape) or (targets.dtype != torch.int64) == whole:
        kind = "int64" if whole else "floating-point"
        wanted = ", ".join(map(str, (batch, *shape)))
        raise GradwireError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; this loss takes {kind} of shape ({wanted})"
        )


@dataclass(frozen=True)
class CrossEntropy(TaskLoss):
    """Cross-entropy of class scores (B, classes) and class numbers, int64 (B,).

    Attributes:
        classes: their names; () where they are not known.
    """

    name: ClassVar[str] = "cross_entropy"
    measured: ClassVar[tuple[str, ...]] = ("accuracy",)
    probabilities = True

    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """One a class."""
        return len(self.classes)

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The mean over the batch; targets may be probabilities (B, classes)."""
        return functional.cross_entropy(matrix(output, len(targets), 2), targets)

    @property
    def each(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Without the mean."""
        return each_cross_entropy

    def check(self, targets: Tensor, batch: int) -> None:
        """Refuse targets that are no class numbers."""
        counted(targets, batch)
        most = len(self.classes) or int(targets.max()) + 1
        if len(outside := ((targets < 0) | (targets >= most)).nonzero()):
            label = f"the label of example {int(outside[0])} is {int(targets[outside[0]])}"
            known = f"with {len(self.classes)} classes it must be from 0 to {most - 1}"
            raise GradwireError(f"{label}; {known if self.classes else 'it must not be negative'}")

    def suits(self, output: Any, targets: Tensor) -> None:
        """Refuse labels that the network has no class for."""
        classes, high = matrix(output, len(targets), 2).shape[1], int(targets.max())
        if high >= classes:
            raise GradwireError(f"label {high} is out of range; the model has classes 0 to {classes - 1}")

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Accuracy."""
        return {"accuracy": (matrix(output, len(targets), 2).argmax(1) == targets).double()}


def each_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every example, (B,)."""
    return functional.cross_entropy(matrix(scores, len(targets), 2), targets, reduction="none")


@dataclass(frozen=True)
class MeanSquaredError(TaskLoss):
    """The mean squared error of outputs (B, outputs) and targets, floating-point (B, outputs)."""

    name: ClassVar[str] = "mse"
    measured: ClassVar[tuple[str, ...]] = ("absolute_error",)

    outputs: int = 1

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The mean over the batch and its outputs."""
        found = matrix(output, len(targets))
        return functional.mse_loss(found, targets.to(found.dtype))

    @property
    def each(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The mean over an example's outputs."""
        return each_squared_error

    def check(self, targets: Tensor, batch: int) -> None:
        """Refuse targets that are no finite numbers."""
        counted(targets, batch, self.outputs, whole=False)
        if not bool(torch.isfinite(targets).all()):
            raise GradwireError("targets hold a value that is not finite")

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Normal numbers."""
        return torch.randn(*size, self.outputs, generator=random)

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """The absolute error."""
        found = matrix(output, len(targets))
        return {"absolute_error": (found - targets).abs().mean(1).double()}


def each_squared_error(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error of every example, (B,)."""
    return (matrix(scores, len(targets)) - targets.to(scores.dtype)).square().mean(1)


@dataclass(frozen=True)
class BinaryCrossEntropy(TaskLoss):
    """Cross-entropy of one or several yes-or-no labels: logits (B, labels) and targets 0 or 1, floating-point."""

    name: ClassVar[str] = "bce"
    measured: ClassVar[tuple[str, ...]] = ("accuracy",)

    outputs: int = 1

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The mean over the batch and its labels."""
        found = matrix(output, len(targets))
        return functional.binary_cross_entropy_with_logits(found, targets.to(found.dtype))

    @property
    def each(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The mean over an example's labels."""
        return each_binary_cross_entropy

    def check(self, targets: Tensor, batch: int) -> None:
        """Refuse targets that are neither 0 nor 1."""
        counted(targets, batch, self.outputs, whole=False)
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise GradwireError("targets hold a value that is neither 0 nor 1; bce takes these alone")

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Zeros and ones."""
        return torch.randint(2, (*size, self.outputs), generator=random).double()

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """The share of labels that are right."""
        found = matrix(output, len(targets))
        return {"accuracy": ((found > 0) == (targets > 0.5)).double().mean(1)}


def each_binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean binary cross-entropy of every example, (B,)."""
    told = targets.to(scores.dtype)
    return functional.binary_cross_entropy_with_logits(matrix(scores, len(told)), told, reduction="none").mean(1)


@dataclass(frozen=True)
class NextToken(TaskLoss):
    """Cross-entropy of each token's scores (B, L, vocabulary) and the next one, over the tokens that count.

    Targets are the tokens themselves, int64 (B, L), with `IGNORED` where there is padding: the score at a position is
    held against the target of the position behind it, as causal models of `transformers` do.

    Attributes:
        pad: the token that fills up short sentences; it is no target.
    """

    name: ClassVar[str] = "next_token"
    measured: ClassVar[tuple[str, ...]] = ("accuracy",)
    from_inputs: ClassVar[bool] = True

    pad: int | None = None

    def derived(self, inputs: Tensor) -> Tensor:
        """The tokens, but `IGNORED` where there is padding."""
        return inputs if self.pad is None else inputs.masked_fill(inputs == self.pad, IGNORED)

    def __call__(self, output: Any, targets: Tensor) -> Tensor:
        """The mean over all counted tokens of the batch."""
        scores = self._scores(output, targets)
        # Targets are moved, not scores, which are large and would be copied.
        due = self._due(scores, targets)
        return functional.cross_entropy(scores.flatten(0, 1), due.flatten(), ignore_index=IGNORED)

    def check(self, targets: Tensor, batch: int) -> None:
        """Refuse a batch without a counted target."""
        if targets.ndim != 2 or len(targets) != batch or targets.dtype != torch.int64:
            raise GradwireError(
                f"targets are {targets.dtype} of shape {tuple(targets.shape)}; next_token takes tokens, int64 (B, L)"
            )
        if not bool((targets[:, 1:] != IGNORED).any()):
            raise GradwireError("batch has no counted target: a sentence must have two tokens or more for next_token")

    def suits(self, output: Any, targets: Tensor) -> None:
        """Refuse a network with fewer scores than targets that count, or fewer tokens."""
        scores, high = self._scores(output, targets), int(targets.max())
        places, rows = scores.shape[1:]
        if bool((targets[:, places:] != IGNORED).any()):
            raise GradwireError(f"model gives scores of {places} positions, and sentences have more tokens")
        if high >= rows:
            raise GradwireError(f"token {high} is out of range; the model has scores of tokens 0 to {rows - 1}")

    def measures(self, output: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """The share of a sentence's tokens that were the likeliest."""
        scores = self._scores(output, targets)
        due = self._due(scores, targets)
        counts = due != IGNORED
        right = (scores.argmax(2) == due) & counts
        return {"accuracy": right.sum(1).double() / counts.sum(1).clamp_min(1)}

    @staticmethod
    def _scores(output: Any, targets: Tensor) -> Tensor:
        """Scores (B, L, vocabulary), or fewer positions where there is padding behind them (`Tokens.reached`)."""
        found, (batch, length) = logits(output), targets.shape
        if found.ndim != 3 or len(found) != batch or found.shape[1] > length:
            shape, wanted = tuple(found.shape), (batch, length, "vocabulary")
            raise GradwireError(f"model gives shape {shape}; for next_token it must be {wanted}")
        return found

    @staticmethod
    def _due(scores: Tensor, targets: Tensor) -> Tensor:
        """The next token at each position that has scores, (B, L'); the last position has none."""
        return functional.pad(targets[:, 1:], (0, 1), value=IGNORED)[:, : scores.shape[1]]
