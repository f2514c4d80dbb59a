"""A task: the domain of its inputs, and its loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.models.mode import floating, logits
from gradwire.tasks.domain import Domain
from gradwire.tasks.given_losses import OwnLoss
from gradwire.tasks.losses import CrossEntropy, TaskLoss
from gradwire.tasks.numbers import Numbers
from gradwire.tasks.pixels import Pixels


@dataclass(frozen=True)
class Task:
    """What is learned from what.

    Attributes:
        domain: of the inputs.
        loss: of a network's output and the targets.
        usual: the spec of the network that is usual for these data. [default: the domain's]
    """

    domain: Domain
    loss: TaskLoss
    usual: str = ""

    @property
    def network(self) -> str:
        """The spec of the network that is trained where nobody names one."""
        return self.usual or ("gpt2" if self.loss.from_inputs else self.domain.network)

    def check(self, inputs: Tensor, targets: Tensor) -> None:
        """Refuse a batch that is outside the domain, or targets that do not suit the loss."""
        self.domain.check(inputs)
        self.loss.check(targets, len(inputs))

    def output(
        self,
        model: nn.Module,
        inputs: Tensor,
        tensors: Mapping[str, Tensor] | None = None,
        targets: Tensor | None = None,
    ) -> Any:
        """What a network gives for inputs (B, *shape), as it comes.

        Args:
            inputs: floating-point ones are cast to the type of the network's parameters.
            tensors: parameters and buffers by name, in place of the network's own.
            targets: for a network that reports its loss.
        """
        if inputs.is_floating_point():
            inputs = inputs.to(floating(model))
        if self.loss.takes_fewer:
            inputs = self.domain.reached(inputs)
        given, named = self.domain.arguments(model, inputs)
        if self.loss.reported and targets is not None:
            named = named | {"labels": targets[:, : inputs.shape[1]] if self.loss.from_inputs else targets}
        return model(*given, **named) if tensors is None else functional_call(model, dict(tensors), given, named)

    def logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """A network's logits of inputs (B, *shape)."""
        return logits(self.output(model, inputs))

    def value(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, tensors: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The mean loss of a batch: a scalar."""
        return self.loss(self.output(model, inputs, tensors, targets), targets)

    def each(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Each example's own loss, float64 (B,), of inputs (B, *shape).

        Where the loss says what that of an example is (`TaskLoss.each`), all examples run together. Any other, such as
        that of the next token, is computed for one example after another, each a batch of its own, which is right for
        any loss and takes as many passes as there are examples.
        """
        if self.loss.each is not None:
            return self.loss.each(self.logits(model, inputs).double(), targets)
        alone = zip(inputs.split(1), targets.split(1), strict=True)
        return torch.stack([self.value(model, x, y).double() for x, y in alone])

    def probe(self, *size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """A batch at random, numbers in float64: with it the paths of an engine are compared."""
        random = torch.Generator().manual_seed(seed)
        inputs = self.domain.sample(*size, random=random)
        if self.loss.from_inputs:
            return inputs, self.loss.derived(inputs)
        return inputs.double() if inputs.is_floating_point() else inputs, self.loss.sample(*size, random=random)


def task_of(inputs: Tensor, loss: TaskLoss | Callable[[Any, Tensor], Tensor] = cross_entropy) -> Task:
    """The task of tensors of which nobody has said more.

    Floating-point tensors (B, C, H, W) are images in [0, 1]; others are numbers.

    Args:
        loss: one of `gradwire.tasks`, or a function of a network's output and the targets.

    Raises:
        GradwireError: no tensor of floating point; whole numbers have a meaning (tokens, categories) to be said.
    """
    if not inputs.is_floating_point():
        pictures = "divide by 255: pictures are floating-point, in [0, 1]"
        others = "give the task that says what they are (gradwire.tasks.Tokens)"
        raise GradwireError(f"inputs are {inputs.dtype}; {pictures if inputs.dtype == torch.uint8 else others}")
    shape = tuple(inputs.shape[1:])
    domain: Domain = Pixels(shape) if len(shape) == 3 else Numbers(shape)
    if isinstance(loss, TaskLoss):
        return Task(domain, loss)
    return Task(domain, CrossEntropy() if loss is cross_entropy else OwnLoss(of=loss))
