"""A client's local work: several steps of SGD on its own data, and what they changed.

B. McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
algorithm 1, ClientUpdate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.models.mode import copied
from gradwire.schemes import Layout, LocalStep, LocalStepHook, Round, State, Update
from gradwire.training.gradient import example_gradients, gradient
from gradwire.wire.view import LocalWork, Loss, Mode


def local_work(steps: int | None, batch: int, lr: float, weight_decay: float) -> LocalWork | None:
    """The work that these settings ask for; None where it is the plain gradient of one batch.

    Raises:
        GradwireError: fewer than one step or image, a step size that is not positive, or a negative weight decay.
    """
    if steps is None and not weight_decay:
        return None
    for name, value, right in (
        ("local_steps", 1 if steps is None else steps, "at least 1"),
        ("local_batch", batch, "at least 1"),
    ):
        if value < 1:
            raise GradwireError(f"{name} is {value}; it must be {right}")
    if not lr > 0:
        raise GradwireError(f"lr is {lr}; it must be positive")
    if weight_decay < 0:
        raise GradwireError(f"weight_decay is {weight_decay}; it must not be negative")
    return LocalWork(1, batch, 1.0, weight_decay) if steps is None else LocalWork(steps, batch, lr, weight_decay)


@dataclass(frozen=True)
class Descent:
    """A client's steps of SGD in one round.

    Attributes:
        plan: the positions of each step's examples among the client's.
        epochs: which of the client's passes over its data each step belongs to.
        lr: the step size; `weight_decay`·parameter is added to what each step follows; `momentum` begins at zero.
    """

    plan: Sequence[Tensor]
    epochs: Sequence[int]
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


def descent(work: LocalWork, examples: int, round: int = 0, random: torch.Generator | None = None) -> Descent:
    """The steps that some work comes to for a client of so many examples.

    Args:
        round: its number; each begins with a new pass over the examples.
        random: the client's own: decides each epoch's order. Without it examples stay in theirs.

    Raises:
        GradwireError: a number of examples that `work.batch` does not divide.
    """
    if examples % work.batch:
        raise GradwireError(f"local_batch is {work.batch}; it must divide the {examples} images of the client")
    plan: list[Tensor] = []
    while len(plan) < work.steps:
        order = torch.arange(examples) if random is None else torch.randperm(examples, generator=random)
        plan.extend(order.split(work.batch))
    each = examples // work.batch
    first = round * -(-work.steps // each)
    epochs = [first + index // each for index in range(work.steps)]
    return Descent(plan[: work.steps], epochs, work.lr, 0.0, work.weight_decay)


Taken = tuple[float, dict[str, Tensor], dict[str, Tensor], State]
"""A loss, an update, buffers, and the client's private state."""


def local_update(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    descent: Descent,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    step_hook: LocalStepHook | None = None,
    private: State | None = None,
    round: Round | None = None,
    finite: bool = True,
) -> Taken:
    """Old − new parameters after the steps: mean loss, update, buffers of the last step, private state.

    The model is not changed.

    Args:
        practice: what the scheme has the client do to each step, with its `private` state, in this `round`.

    Raises:
        GradwireError: as `gradient`.
    """
    network = copied(model)
    round = Round(0, (), 0, Layout.of_model(model)) if round is None else round
    buffers: dict[str, Tensor] = {}
    momenta: dict[str, Tensor] = {}
    state: State = {} if private is None else private
    total, seen = 0.0, 0
    for index, (chosen, epoch) in enumerate(zip(descent.plan, descent.epochs, strict=True)):
        step = LocalStep(round, index, len(descent.plan), len(chosen), len(inputs), epoch)
        value, slope, buffers, state = direction(
            network, inputs[chosen], labels[chosen], step_hook, state, step, mode, loss, finite
        )
        total, seen = total + value * len(chosen), seen + len(chosen)
        after: dict[str, Tensor] = {}
        for name in slope:
            p = network.get_parameter(name).detach()
            followed = slope[name] + descent.weight_decay * p if descent.weight_decay else slope[name]
            if descent.momentum:
                momenta[name] = descent.momentum * momenta[name] + followed if name in momenta else followed
                followed = momenta[name]
            if step_hook is None:
                p.sub_(followed, alpha=descent.lr)
            else:
                after[name] = p - descent.lr * followed
        stepped: Update = after
        if step_hook is not None:
            stepped, state = step_hook.after_step(stepped, state, step)
        with torch.no_grad():
            for name, p in stepped.items():
                network.get_parameter(name).copy_(p)
            for name, b in buffers.items():
                network.get_buffer(name).copy_(b)
    before = dict(model.named_parameters())
    update = {n: (before[n] - p).detach() for n, p in network.named_parameters() if p.requires_grad}
    return total / seen, update, buffers, state


def direction(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    step_hook: LocalStepHook | None,
    private: State,
    step: LocalStep,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    finite: bool = True,
) -> Taken:
    """What one step follows: the gradient of a batch's mean loss, or what the practice makes of it.

    Raises:
        GradwireError: as `gradient`, and as `example_gradients` where the practice asks for those.
    """
    value, slope, buffers = gradient(model, inputs, labels, mode, loss, finite)
    if step_hook is None:
        return value, slope, buffers, private
    seen = example_gradients(model, inputs, labels, mode, loss) if step_hook.per_example else slope
    followed, private = step_hook.before_step(seen, private, step)
    return value, dict(followed), buffers, private
