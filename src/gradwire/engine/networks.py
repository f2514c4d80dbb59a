"""Many networks of one architecture, with tensors stacked along a first axis, and their steps of SGD."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from gradwire.engine.factored import Factored
from gradwire.errors import GradwireError

Stacked = dict[str, Tensor]
"""Name → tensor of shape (N, …): that of each of N networks."""


@dataclass(frozen=True)
class Networks:
    """The tensors of N networks of one architecture.

    Attributes:
        parameters: those that require a gradient.
        buffers: with those that a state dict omits (constants).
        momenta: SGD's, as `parameters`; empty before the first step with momentum.
        draws: N generators, one for each network's dropout; empty: all use the global one.
    """

    parameters: Stacked
    buffers: Stacked
    momenta: Stacked = field(default_factory=dict)
    draws: tuple[torch.Generator, ...] = ()

    @classmethod
    def of(cls, models: Sequence[nn.Module]) -> "Networks":
        """The networks of these modules, which are copied."""
        if not models:
            raise GradwireError("a stack of networks needs at least one")
        try:
            parameters, buffers = stack_module_state(list(models))
        except (RuntimeError, ValueError, KeyError) as error:
            raise GradwireError(f"networks of different shapes cannot be stacked: {error}") from None
        trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
        return cls({n: p.detach() for n, p in parameters.items() if n in trained}, buffers)

    @classmethod
    def repeat(cls, model: nn.Module, count: int) -> "Networks":
        """`count` copies of one module's network."""

        def copies(tensor: Tensor) -> Tensor:
            return tensor.detach().expand(count, *tensor.shape).clone()

        parameters = {name: copies(p) for name, p in model.named_parameters() if p.requires_grad}
        return cls(parameters, {name: copies(b) for name, b in model.named_buffers()})

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def network(self, index: int) -> dict[str, Tensor]:
        """One network's parameters and buffers by name, as views."""
        return {name: tensor[index] for name, tensor in (self.parameters | self.buffers).items()}


@dataclass(frozen=True)
class Slopes:
    """Losses and gradients of N networks on one batch each.

    Attributes:
        losses: shape (N,), each the weighted mean over the network's examples.
        parts: their gradients, name → (N, …), some of them not formed yet.
        buffers: as the forward pass leaves them.
    """

    losses: Tensor
    parts: Mapping[str, Tensor | Factored]
    buffers: Stacked

    @property
    def gradients(self) -> Stacked:
        """All gradients, formed."""
        return {name: part.full() if isinstance(part, Factored) else part for name, part in self.parts.items()}


@torch.no_grad()
def descend(
    networks: Networks,
    slopes: Slopes,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    active: Tensor | None = None,
) -> Networks:
    """One step of SGD for each network, as `torch.optim.SGD` takes it (v ← momentum·v + g, θ ← θ − lr·v).

    The tensors of `networks` are overwritten; use what is returned.

    Args:
        active: shape (N,), bool: which networks step; the others stay as they are, momenta and buffers too.
    """
    momenta = networks.momenta
    for name, parameter in networks.parameters.items():
        part = slopes.parts[name]
        if isinstance(part, Factored) and not momentum and (active is None or not weight_decay):
            # All weights of an inactive network's examples are zero, and so is δ.
            parameter.baddbmm_(part.delta, part.inputs.mT, beta=1 - lr * weight_decay, alpha=-lr)
            continue
        slope = part.full() if isinstance(part, Factored) else part
        if weight_decay:
            slope = slope.add(parameter, alpha=weight_decay)
        if momentum:
            before = momenta.get(name)
            after = slope.clone() if before is None else before.mul(momentum).add_(slope)
            # A network that has not stepped yet has momentum zero, which gives the rule of the first step.
            rest = torch.zeros_like(after) if before is None else before
            momenta = momenta | {name: _where(active, after, rest)}
            slope = after
        parameter.sub_(slope if active is None else _where(active, slope, torch.zeros_like(slope)), alpha=lr)
    buffers = {name: _where(active, slopes.buffers[name], old) for name, old in networks.buffers.items()}
    return replace(networks, buffers=buffers, momenta=momenta)


def _where(active: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    return new if active is None else torch.where(active.view(-1, *[1] * (new.ndim - 1)), new, old)
