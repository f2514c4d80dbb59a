"""What training with scheme `none` comes to, without a wire: for networks of which only the outcome counts.

The mean of the clients' gradients is the gradient of their batches taken together, so that one step on that batch does
what a round does, where the loss is a mean over examples. This is the one place that trains without sending anything;
`fits` says of which runs it is true.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradwire.data import Dataset
from gradwire.engine import Networks, descend, stack
from gradwire.errors import GradwireError
from gradwire.models import parameter_count
from gradwire.models.mode import in_mode
from gradwire.schemes import parse
from gradwire.schemes.none import PlainSGD
from gradwire.tasks import Task
from gradwire.training import optimizer
from gradwire.training.client import running_statistics
from gradwire.training.settings import PRECISIONS, Precision, TrainSettings, learning_rate
from gradwire.training.state import TrainingState

Data = tuple[Tensor, Tensor]
"""Inputs and their targets, as `resident` gives them."""
SMALL, MANY = 1_000_000, 64
"""Networks with fewer parameters train so many as one batch on an accelerator."""


@dataclass(frozen=True)
class Speed:
    """How a step is computed. None of it changes what is computed, but for rounding.

    Attributes:
        together: networks that train as one batch (0: chosen by `lot`).
        precision: of the forward and backward pass; "bf16" keeps parameters and their updates in float32.
        channels_last: the memory layout that convolutions on tensor cores want.
        compile: let torch.compile fuse the step of a network that trains alone.
    """

    together: int = 0
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.together < 0:
            raise GradwireError(f"together is {self.together}; it must not be negative")
        if self.precision not in PRECISIONS:
            raise GradwireError(f"precision is {self.precision!r}; it must be {' or '.join(PRECISIONS)}")

    def lot(self, model: nn.Module, device: str) -> int:
        """How many networks like this one train as one batch on a device.

        A CPU is busy with one network's batch already, and its convolutions are quickest for one. An accelerator
        is idle until many small networks share a step.
        """
        if self.together:
            return self.together
        return MANY if device != "cpu" and parameter_count(model) < SMALL else 1


def fits(settings: TrainSettings, model: nn.Module, shards: Sequence[Tensor] = (), task: Task | None = None) -> bool:
    """Whether plain steps come to what these settings' rounds do.

    Batch norm over all clients' batches together is not batch norm over each of them, so that a network with running
    statistics fits for one client only; and a client that cannot fill a batch would count for less than the others.

    Args:
        shards: the clients' examples, where they are known.
        task: what is learned; one whose loss is no mean over examples, such as that of the next token, fits for one
            client only. By default the loss is such a mean.
    """
    mean = task is None or task.loss.each is not None
    alone = settings.clients == 1 or (mean and not running_statistics(model))
    whole = settings.cohort == settings.clients and not settings.local and settings.average == "plain"
    whole &= not settings.poisson
    filled = all(len(shard) >= settings.batch_size for shard in shards)
    # Equality, for a scheme may inherit plain SGD's protocol and do something to updates all the same.
    exact = settings.precision == "fp32"
    return parse(settings.scheme) == PlainSGD() and alone and whole and filled and exact


def resident(dataset: Dataset, device: str) -> Data:
    """All inputs and targets on the device, inputs as they are stored: batches are then one indexing away."""
    return dataset.inputs.to(device), dataset.targets.to(device)


def fit(
    states: Sequence[TrainingState],
    settings: TrainSettings,
    task: Task,
    data: Data,
    schedules: Sequence[Tensor],
    speed: Speed = Speed(),
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Take the training of several networks on to the ends of their schedules; they may be of any number.

    One network takes its steps alone; several take theirs as one batch where the optimiser is one of a stack's and the
    loss is a mean over examples.

    Args:
        states: as `begin` gives them; changed in place. The wire's counters stay as they are.
        settings: of all of them, but for the seed, which has no say in a step.
        data: as `resident` gives them.
        schedules: positions of each step's examples, int64 (steps, B); the first belongs to each state's next round.
        tick: called after each step.

    Raises:
        GradwireError: a network whose parameters are no longer finite.
    """
    if len(states) > 1 and settings.optimizer == "sgd" and not settings.nesterov and task.loss.each is not None:
        _stacked(states, settings, task, data, torch.stack(list(schedules), 1), speed, tick)
    else:
        for state, schedule in zip(states, schedules, strict=True):
            _alone(state, settings, task, data, schedule, speed, tick)
    for state, schedule in zip(states, schedules, strict=True):
        state.round += len(schedule)
        if not all(bool(torch.isfinite(p).all()) for p in state.model.parameters()):
            raise GradwireError(f"training diverged within {state.round} steps; take a smaller lr")


def _alone(
    state: TrainingState,
    settings: TrainSettings,
    task: Task,
    data: Data,
    schedule: Tensor,
    speed: Speed,
    tick: Callable[[], None],
) -> None:
    """One network's steps."""
    form = torch.channels_last if speed.channels_last else torch.contiguous_format
    model, (inputs, targets) = state.model.to(memory_format=form), data  # type: ignore[call-overload]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        x = task.domain.read(x)
        return task.value(model, x.contiguous(memory_format=form) if x.ndim == 4 else x, y)

    chosen = torch.compile(loss) if speed.compile else loss
    with in_mode(model, "train"), torch.enable_grad():
        for round, where in enumerate(schedule.to(inputs.device), state.round):
            with torch.autocast(inputs.device.type, torch.bfloat16, enabled=speed.precision == "bf16"):
                value = chosen(inputs[where], targets[where])
            state.optimizer.zero_grad()
            value.backward()
            optimizer.step(state.optimizer, settings, round)
            tick()
    model.to(memory_format=torch.contiguous_format)


def _stacked(
    states: Sequence[TrainingState],
    settings: TrainSettings,
    task: Task,
    data: Data,
    schedule: Tensor,
    speed: Speed,
    tick: Callable[[], None],
) -> None:
    """The steps of several networks as one batch; `schedule` has shape (steps, networks, B)."""
    networks, (inputs, targets) = _joined(states), data
    path = stack(states[0].model, task, device=str(inputs.device))
    path = replace(path, precision=speed.precision)
    for round, where in enumerate(schedule.to(inputs.device), states[0].round):
        found = path.slopes(networks, task.domain.read(inputs[where]), targets[where])
        rate = learning_rate(settings, round)
        networks = descend(networks, found, rate, settings.momentum, settings.weight_decay)
        tick()
    _part(networks, states)


def _joined(states: Sequence[TrainingState]) -> Networks:
    """The states' networks as a stack, with SGD's momenta where there have been steps."""
    networks = Networks.of([state.model for state in states])
    momenta = {}
    for name in networks.parameters:
        each = [s.optimizer.state.get(s.model.get_parameter(name), {}).get("momentum_buffer") for s in states]
        if all(momentum is not None for momentum in each):
            momenta[name] = torch.stack(each)
    return Networks(networks.parameters, networks.buffers, momenta)


@torch.no_grad()
def _part(networks: Networks, states: Sequence[TrainingState]) -> None:
    """Give every state its network and momenta back."""
    for index, state in enumerate(states):
        for name, value in networks.network(index).items():
            (dict(state.model.named_parameters()) | dict(state.model.named_buffers()))[name].copy_(value)
        for name, several in networks.momenta.items():
            state.optimizer.state[state.model.get_parameter(name)]["momentum_buffer"] = several[index].clone()
