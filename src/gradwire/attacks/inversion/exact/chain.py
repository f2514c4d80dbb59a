"""A network as a chain of layers, each of which receives what the one before gives; it is found by running it.

Between two layers stand activations that can be inverted number by number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold, unfold
from torch.nn.grad import conv2d_input

from gradwire.attacks.inversion.exact.entrance import Entrance
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, failure, logits, set_mode
from gradwire.wire import View

ZERO = 1e-5
"""Outputs of a ReLU below this share of the largest are zeros that rounding moved."""


@dataclass(frozen=True)
class RunModule:
    """A module that was run for one input, what it received and what it gave, float64 (1, …)."""

    name: str
    module: Any
    entered: Tensor = field(repr=False)
    left: Tensor = field(repr=False)


def _same(module: Any, given: Tensor) -> Tensor:
    return given


def _rectified(module: Any, given: Tensor) -> Tensor:
    """Of a unit that is off only the sign is known; every negative number has its slope, 0."""
    return torch.where(given > ZERO * given.max(), given, -1.0)


def _normed(module: Any, given: Tensor) -> Tensor:
    """Batch norm with running statistics is a scale and an offset a channel, which two probes tell."""
    zero, one = (module(torch.full_like(given, value)) for value in (0.0, 1.0))
    return (given - zero) / (one - zero)


EDGE = 1e-12
"""Sigmoids do not come nearer to their bounds; what rounding moved beyond is taken for that."""
INVERSES: Mapping[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d), _same),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _normed),
    nn.LeakyReLU: lambda module, given: torch.where(given > 0, given, given / module.negative_slope),
    nn.ReLU: _rectified,
    nn.Sigmoid: lambda _, given: given.logit(EDGE),
    nn.Tanh: lambda _, given: given.clamp(EDGE - 1, 1 - EDGE).atanh(),
}
"""What a module received, from what it gives; of dropout and batch norm in evaluation mode."""


@dataclass(frozen=True)
class Layer:
    """A layer z = W*x + b of one input, and what stands behind it. A linear one is a convolution over one pixel.

    Attributes:
        weight: W, (o, c, h, w), and b, (o,).
        shape: of x, (c, h, w).
        geometry: stride, padding and dilation.
        behind: the modules between z and the next layer.
    """

    name: str
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    shape: tuple[int, ...]
    geometry: tuple[Any, Any, Any]
    behind: tuple[RunModule, ...] = field(repr=False)

    @classmethod
    def of(cls, run: RunModule, behind: tuple[RunModule, ...]) -> "Layer":
        """Of a module that was run; GradwireError where it is of another kind."""
        module, shape = run.module, tuple(run.entered.shape[1:])
        bias = module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias
        if isinstance(module, nn.Linear) and len(shape) == 1:
            return cls(run.name, module.weight[..., None, None], bias, (*shape, 1, 1), (1, 0, 1), behind)
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
            padding = 0 if module.padding == "valid" else module.padding
            if padding != "same":
                geometry = (module.stride, padding, module.dilation)
                return cls(run.name, module.weight, bias, shape, geometry, behind)
        raise GradwireError(f"rgap needs plain layers of one image; {run.name!r} is {module}")

    def __call__(self, inputs: Tensor) -> Tensor:
        """W*x without b, (N, o, …), of inputs (N, c, h, w)."""
        stride, padding, dilation = self.geometry
        return conv2d(inputs, self.weight, None, stride, padding, dilation)

    def back(self, slopes: Tensor) -> Tensor:
        """The transpose: Wᵀ*δ, (N, c, h, w), of slopes (N, o, …)."""
        stride, padding, dilation = self.geometry
        return conv2d_input((len(slopes), *self.shape), self.weight, slopes, stride, padding, dilation)

    def patches(self, inputs: Tensor) -> Tensor:
        """What the kernel meets at P places of inputs (N, c, h, w): (N, c·k, P)."""
        stride, padding, dilation = self.geometry
        return unfold(inputs, self.weight.shape[2:], dilation, padding, stride)

    def folded(self, patches: Tensor) -> Tensor:
        """The transpose of `patches`: (N, c·k, P) → (N, c, h, w)."""
        stride, padding, dilation = self.geometry
        return fold(patches, self.shape[1:], self.weight.shape[2:], dilation, padding, stride)

    def met(self, channels: int) -> Tensor:
        """Which numbers of so many channels, counted from 1, the kernel meets: int64 (channels·k, P), 0 for padding."""
        count = torch.arange(1.0, 1 + channels * prod(self.shape[1:]), dtype=torch.float64)
        return self.patches(count.view(1, channels, *self.shape[1:]))[0].long()

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The shape of z behind its channels."""
        return tuple(self(self.weight.new_zeros(1, *self.shape)).shape[2:])

    def inverted(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Of what the next layer received (N, m): z, and how steeply that depends on z, (N, o, …) each."""
        for run in reversed(self.behind):
            given = INVERSES[type(run.module)](run.module, given.view(-1, *run.left.shape[1:]))

        outputs = given.reshape(-1, len(self.weight), *self.places).requires_grad_()
        after = outputs
        for run in self.behind:
            after = run.module(after.view(-1, *run.entered.shape[1:]))
        return outputs.detach(), torch.autograd.grad(after.sum(), outputs)[0]


@dataclass(frozen=True)
class Chain:
    """The layers of a network, the first one first.

    Attributes:
        entrance: how an input reaches the first one.
        ends: whether the last one gives the logits themselves.
    """

    layers: tuple[Layer, ...]
    entrance: Entrance
    ends: bool

    @classmethod
    def of(cls, view: View) -> "Chain":
        """Of a view's network.

        Raises:
            GradwireError: the network is no such chain, or an activation of it cannot be inverted.
        """
        network = set_mode(copied(view.model).to("cpu", torch.float64), view.mode).requires_grad_(False)
        for module in network.modules():
            if hasattr(module, "inplace"):
                setattr(module, "inplace", False)  # noqa: B010 (mypy takes any attribute for a tensor)
        probe = view.task.domain.sample(1, random=torch.Generator().manual_seed(0)).double()
        runs, output = _run(network, view, probe)
        places = [place for place, run in enumerate(runs) if isinstance(run.module, nn.Linear | nn.Conv2d)]
        if not places:
            raise GradwireError("rgap needs linear or convolutional layers; there are none")
        first, last = places[0], places[-1]
        for before, run in zip(runs[first:last], runs[first + 1 :], strict=False):
            if not torch.equal(before.left.flatten(), run.entered.flatten()):
                what = f"{run.name!r} receives something else than what {before.name!r} gives"
                raise GradwireError(f"rgap follows modules one after another; {what}")
        behind = [tuple(runs[a + 1 : b]) for a, b in zip(places, [*places[1:], last + 1], strict=True)]
        for run in (run for each in behind for run in each):
            _check(run)
        layers = tuple(Layer.of(runs[place], each) for place, each in zip(places, behind, strict=True))
        if len({layer.name for layer in layers}) < len(layers):
            raise GradwireError("rgap needs layers each of which is run once")
        entrance = Entrance.of(lambda x: _run(network, view, x)[0][first].entered.flatten(), view.shape[1:])
        if entrance is None:
            name = layers[0].name
            raise GradwireError(f"rgap needs every number to reach {name!r} by itself; what comes before mixes them")
        return cls(layers, entrance, torch.equal(output.flatten(), runs[last].left.flatten()))


def _check(run: RunModule) -> None:
    """Refuse a module that has no inverse as it is."""
    module, training = run.module, run.module.training
    if type(module) not in INVERSES or getattr(module, "negative_slope", 1) <= 0:
        raise GradwireError(f"rgap needs activations with an inverse between layers; {run.name!r} is {module}")
    if training and (getattr(module, "p", 0) or hasattr(module, "momentum")):
        raise GradwireError(f"rgap needs {run.name!r}, {module}, in evaluation mode; it is in training mode")


def _run(network: nn.Module, view: View, inputs: Tensor) -> tuple[list[RunModule], Tensor]:
    """The modules without parts that are run, in their order, and the logits."""
    names = {module: name for name, module in network.named_modules() if not list(module.children())}
    runs: list[RunModule] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
            runs.append(RunModule(names[module], module, arguments[0].clone(), output.clone()))

    handles = [module.register_forward_hook(note) for module in names]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            return runs, logits(view.task.output(network, inputs)).clone()
        except Exception as error:  # the model is the user's
            raise GradwireError(f"rgap cannot run the network: {failure(error)}") from error
        finally:
            for handle in handles:
                handle.remove()
