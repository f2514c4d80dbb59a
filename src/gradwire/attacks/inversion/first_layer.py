"""A network's first layer, where it is a linear one, and the entries of its gradient in what was sent."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.schemes import Measurement
from gradwire.schemes.measurement import Dense, LeftSketch, Support, Term
from gradwire.tasks import Task
from gradwire.wire.view import Mode

EXACT = 1e-9
"""Relative error, in float64, up to which what precedes the layer counts as one scale and one offset a number."""


@dataclass(frozen=True)
class FirstLayer:
    """The first layer with trainable parameters, a linear one that receives a·x + c of every number x of an input.

    Attributes:
        weight: the parameter's name, and `bias` of the other.
        scale: a, float64, shape (m,), m numbers an input: 1/std behind a `Normalize`, and 1 where nothing precedes.
        offset: c, of the same shape.
    """

    weight: str
    bias: str
    scale: Tensor
    offset: Tensor

    @classmethod
    def of(cls, model: nn.Module, task: Task, mode: Mode, shape: tuple[int, ...]) -> "FirstLayer":
        """Find the layer, and measure a and c by sending probes through what comes before it.

        The network is never run beyond the layer, so that bottlenecks and noise behind it do not matter.

        Args:
            shape: (B, *shape) of a victim's batch.

        Raises:
            GradwireError: the domain's inputs are no numbers, or there is no such layer.
        """
        if not task.domain.continuous:
            raise GradwireError(f"analytic solves for numbers; {task.domain.what} hold none")
        network = set_mode(copied(model).to("cpu", torch.float64), mode)
        probes = torch.rand(2, *shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        name, layer, reached = _reach(network, task, probes)
        if not isinstance(layer, nn.Linear):
            found = f"{name!r} is {type(layer).__name__}"
            raise GradwireError(f"analytic needs a first layer with parameters that is Linear; {found}: try iga")
        trained = {name for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
        if not {"weight", "bias"} <= trained:
            raise GradwireError(f"analytic needs the gradients of a weight and a bias; {name!r} lacks one")
        if reached.shape == (2, prod(shape[1:])):
            zero, one = (_reach(network, task, torch.full_like(probes, value))[2] for value in (0.0, 1.0))
            scale, offset = (one - zero)[0], zero[0]
            off = (scale * probes.flatten(1) + offset - reached).abs().max()
            if off <= EXACT * reached.abs().max() and (scale != 0).all():
                return cls(f"{name}.weight".lstrip("."), f"{name}.bias".lstrip("."), scale, offset)
        raise GradwireError(f"analytic needs every number to reach {name!r} by itself; what comes before it mixes them")

    def undone(self, inputs: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The network's inputs (R, *shape) that made inputs (R, m) of the layer; they may lie outside the domain."""
        return ((inputs - self.offset) / self.scale).view(-1, *shape[1:])

    def entered(self, inputs: Tensor) -> Tensor:
        """What reaches the layer, (R, m), of the network's inputs (R, *shape)."""
        return self.scale * inputs.flatten(1) + self.offset

    def seen(self, weight: Tensor, bias: Tensor) -> Tensor:
        """∂W, (n, m), as if the layer received the network's inputs themselves: Σ δ·xᵀ = (∂W − ∂b·cᵀ) / a."""
        return (weight - torch.outer(bias, self.offset)) / self.scale


class _Reached(Exception):
    """Ends a forward pass at the layer that is sought."""

    def __init__(self, layer: nn.Module, inputs: Tensor):
        self.layer, self.inputs = layer, inputs


def _reach(network: nn.Module, task: Task, inputs: Tensor) -> tuple[str, nn.Module, Tensor]:
    """Name, layer and its input, where inputs first meet a trainable parameter."""

    def stop(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        raise _Reached(layer, arguments[0])

    own = {m: name for name, m in network.named_modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    with ExitStack() as hooks, torch.no_grad():
        for module in own:
            hooks.enter_context(module.register_forward_pre_hook(stop))
        try:
            task.output(network, inputs)
        except _Reached as reached:
            return own[reached.layer], reached.layer, reached.inputs
    raise GradwireError(f"analytic finds no layer of {type(network).__name__} that has trainable parameters")


class KnownEntries(NamedTuple):
    """Entries of one parameter's gradient, float64: zero where they are not `known` (bool)."""

    values: Tensor
    known: Tensor


def entries(terms: Measurement, problem: Problem, layer: FirstLayer) -> tuple[KnownEntries, KnownEntries] | None:
    """The entries of the layer's ∂W and ∂b; None where the terms are of a kind that holds none."""
    size = problem.view.model.get_parameter(layer.weight).shape
    weight, bias = read(terms.get(layer.weight, ()), size), read(terms.get(layer.bias, ()), size[:1])
    return None if weight is None or bias is None else (weight, bias)


def read(terms: Sequence[Term], shape: Sequence[int]) -> KnownEntries | None:
    """A parameter's entries in terms: all (dense), some (support), or those of P·(GᵀP)ᵀ (a sketch)."""
    nothing = torch.zeros(*shape, dtype=torch.float64)
    if not terms:
        return KnownEntries(nothing, nothing.bool())
    for term in terms:
        if type(term) is Dense:  # a quantisation cell is not an entry that was sent as it is
            return KnownEntries(term.observed[0].double(), nothing == 0)
        if isinstance(term, LeftSketch):
            return KnownEntries(term.left[0].double() @ term.observed[0].double().mT, nothing == 0)
        if isinstance(term, Support):
            sent = term.indices[0][term.weight[0] > 0]
            values, known = nothing.flatten(), nothing.flatten().bool()
            values[sent], known[sent] = term.observed[0][term.weight[0] > 0].double(), True
            return KnownEntries(values.view(*shape), known.view(*shape))
    return None
