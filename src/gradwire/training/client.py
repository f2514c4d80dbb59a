"""One client's training in one round: the gradient of a batch, or several steps of SGD and what they changed.

B. McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
algorithm 1, ClientUpdate. Training and captures both come by here: what is attacked is what is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied
from gradwire.schemes import Contribution, LocalStep, LocalStepHook, Round, Scheme, State, Update
from gradwire.seeds import drawing, number
from gradwire.tasks import Task
from gradwire.training.gradient import example_gradients, gradient
from gradwire.training.settings import Precision
from gradwire.wire import Tensors
from gradwire.wire.view import Mode


@dataclass(frozen=True)
class Descent:
    """A client's steps of SGD in one round.

    Attributes:
        plan: the positions of each step's examples among the client's.
        epochs: the client's pass over its data that each step belongs to.
        lr: the step size; `weight_decay`·parameter is added to what each step follows; `momentum` begins at zero.
        local: whether the client sends what the steps change; else it sends what one step of size 1 would follow.
        rate: of Poisson batches, the chance of each example, and `expected`, their number in expectation, by which each
            step divides; None: each step divides by those it has.
    """

    plan: Sequence[Tensor]
    epochs: Sequence[int]
    lr: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    local: bool = True
    rate: float | None = None
    expected: int = 0


@dataclass(frozen=True)
class Computation:
    """How clients run the network.

    Attributes:
        mode: "train" or "eval".
        task: what is learned; None: from images to class numbers.
        precision: of the forward and backward products.
        finite: whether to insist that gradients are.
    """

    mode: Mode = "train"
    task: Task | None = None
    precision: Precision = "fp32"
    finite: bool = True

    @property
    def ordinary(self) -> bool:
        """Whether it is what engines for many networks compute: a mean over examples, in training mode."""
        return self.mode == "train" and (self.task is None or self.task.loss.each is not None)


def contribution(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    scheme: Scheme,
    party: str,
    private: State,
    round: Round,
    descent: Descent,
    how: Computation = Computation(),
    examples: int | None = None,
) -> Contribution:
    """Train as one client does in one round.

    Whatever the network draws (dropout, a bottleneck's noise) is decided by the run's seed, the round and the party;
    the global generator is left as it was.

    Args:
        model: the network that is trained under the scheme (`schemes.adapted`). It is not changed.
        inputs: what the descent's positions refer to, shape (N, *domain.shape), and their targets.
        private: the client's state before the round.
        examples: how many the client has in all; by default those given.

    Raises:
        GradwireError: as `gradient`, naming the client and the round; or buffers that a scheme which protects every
            example would leave unprotected.
    """
    size = len(inputs) if examples is None else examples
    device = inputs.device.type
    try:
        with (
            drawing(number("training", round.seed, round.index, party), str(inputs.device)),
            torch.autocast(device, torch.bfloat16, enabled=how.precision == "bf16"),
        ):
            value, update, buffers, private = _descend(
                model, inputs, targets, descent, how, scheme.step_hook, private, round, size
            )
    except GradwireError as error:
        raise GradwireError(f"round {round.index}, {party}: {error}") from error
    carried = carried_buffers(model) if how.mode == "train" else []
    sent = {name: buffers[name].cpu() for name in carried}
    if scheme.protects:
        for name, left in sent.items():
            if not torch.equal(left, model.get_buffer(name).cpu()):
                why = f"buffer {name!r} holds statistics of the examples, to which {scheme.name} adds no noise"
                raise GradwireError(
                    f"round {round.index}, {party}: {why}; take a network without, such as group norm, or "
                    "track_running_stats=False"
                )
    return Contribution({name: g.cpu() for name, g in update.items()}, private, sent, loss=value)


def carried_buffers(model: nn.Module) -> list[str]:
    """Names of the buffers that a state dict carries: running statistics and counters, which need no gradient."""
    kept = model.state_dict().keys()
    return [name for name, _ in model.named_buffers() if name in kept]


def running_statistics(model: nn.Module) -> list[str]:
    """Names of the carried buffers of floating point."""
    return [name for name in carried_buffers(model) if model.get_buffer(name).is_floating_point()]


_Taken = tuple[float, Update, Tensors, State]
"""A loss, an update, buffers, and the client's private state."""


def _descend(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    descent: Descent,
    how: Computation,
    hook: LocalStepHook | None,
    private: State,
    round: Round,
    examples: int,
) -> _Taken:
    """Mean loss, update, buffers of the last step, private state."""
    network = copied(model) if descent.local else model
    buffers: Tensors = {}
    momenta: dict[str, Tensor] = {}
    total, seen = 0.0, 0
    for index, (chosen, epoch) in enumerate(zip(descent.plan, descent.epochs, strict=True)):
        counted = len(chosen) if descent.rate is None else descent.expected
        step = LocalStep(round, index, len(descent.plan), counted, examples, epoch, descent.rate)
        x, y = inputs[chosen], targets[chosen]
        value, slope, buffers, private = _followed(network, x, y, how, hook, private, step)
        if descent.weight_decay:
            slope = {n: g + descent.weight_decay * network.get_parameter(n).detach() for n, g in slope.items()}
        if not descent.local:
            return value, slope, buffers, private
        if len(chosen):
            total, seen = total + value * len(chosen), seen + len(chosen)
        if descent.momentum:
            slope = momenta = {n: descent.momentum * momenta[n] + g if momenta else g for n, g in slope.items()}
        stepped: Update = {
            n: torch.sub(network.get_parameter(n).detach(), g, alpha=descent.lr) for n, g in slope.items()
        }
        if hook is not None:
            stepped, private = hook.after_step(stepped, private, step)
        with torch.no_grad():
            for name, p in stepped.items():
                network.get_parameter(name).copy_(p)
            for name, b in buffers.items():
                network.get_buffer(name).copy_(b)
    before = dict(model.named_parameters())
    update = {n: (before[n] - p).detach() for n, p in network.named_parameters() if p.requires_grad}
    return total / seen if seen else nan, update, buffers, private


def _followed(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    how: Computation,
    hook: LocalStepHook | None,
    private: State,
    step: LocalStep,
) -> _Taken:
    """What one step follows: the gradient of a batch's mean loss, or what the hook makes of it.

    A Poisson batch: the sum over its examples, divided by their expected number; nothing where there are none.
    """
    if len(inputs):
        value, slope, buffers = gradient(model, inputs, targets, how.mode, how.task, how.finite)
    else:
        value, buffers = nan, {name: b.detach() for name, b in model.named_buffers()}
        slope = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    if step.batch != len(inputs):
        slope = {name: g * (len(inputs) / step.batch) for name, g in slope.items()}
    if hook is None:
        return value, slope, buffers, private
    seen: Update = slope
    if hook.per_example and len(inputs):
        seen = example_gradients(model, inputs, targets, how.mode, how.task)
    elif hook.per_example:
        seen = {name: g.new_empty(0, *g.shape) for name, g in slope.items()}
    followed, private = hook.before_step(seen, private, step)
    return value, dict(followed), buffers, private
