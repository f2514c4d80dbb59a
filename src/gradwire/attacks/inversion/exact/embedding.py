"""A network's patch embedding and the position embedding behind it, found by running the network."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from gradwire.attacks.inversion.exact.entrance import Entrance
from gradwire.attacks.inversion.first_layer import EXACT
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.wire import View


@dataclass(frozen=True)
class PatchEmbedding:
    """The layer z_p = W·u_p + b that an input's patches u_p enter, and the embedding that is added to z.

    Attributes:
        weight: the name of W, (D, k) behind its first dimension.
        position: the name of the position embedding, and `places`, int64 (P, D), of z in it, flattened.
        entrance: how an input reaches the P·k numbers of its patches.
    """

    weight: str
    position: str
    places: Tensor
    entrance: Entrance

    @classmethod
    def of(cls, view: View) -> "PatchEmbedding":
        """Find both in a view's network, whatever they are called and in whatever order patches stand.

        The layer is the first linear or convolutional one that is run. A parameter is its position embedding if, for
        one input, its gradient holds the slopes at z, number for number.

        Raises:
            GradwireError: there are no such layers.
        """
        network = set_mode(copied(view.model).to("cpu", torch.float64), view.mode)
        names = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
        random = torch.Generator().manual_seed(0)
        probe = view.task.domain.sample(1, random=random).double()
        layer = _first(network, view, probe)
        if layer is None or id(layer.weight) not in names:
            raise GradwireError("april needs a first layer with parameters that is a linear or convolutional one")
        weight = names[id(layer.weight)]
        entrance = Entrance.of(lambda inputs: patches(layer, _called(network, view, layer, inputs)[0]), view.shape[1:])
        if entrance is None:
            raise GradwireError(f"april needs every number to reach {weight!r} by itself; what comes before mixes them")
        others = {name: p for p in network.parameters() if (name := names.get(id(p), weight)) != weight}
        found = _positions(network, view, layer, others)
        if found is None:
            raise GradwireError(
                f"april needs a learned embedding that is added to what {weight!r} gives; there is none"
            )
        return cls(weight, *found, entrance)


def patches(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """The vectors that a layer multiplies with its weight for one input of a network, one after another, flat."""
    if isinstance(layer, nn.Conv2d):
        padding = 0 if isinstance(layer.padding, str) else layer.padding
        return unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)[0].mT.flatten()
    return inputs.flatten()


def _first(network: nn.Module, view: View, probe: Tensor) -> nn.Linear | nn.Conv2d | None:
    """The linear or convolutional layer that is run first; None where it is of another kind than `patches` knows."""
    called: list[nn.Module] = []
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.modules.batchnorm._BatchNorm)
    with ExitStack() as hooks, torch.random.fork_rng(devices=[]), torch.no_grad():
        for each in (module for module in network.modules() if isinstance(module, kinds)):
            hooks.enter_context(each.register_forward_pre_hook(lambda module, _: called.append(module)))
        try:
            view.task.output(network, probe)
        except Exception as error:  # the model is the user's
            raise GradwireError(f"april cannot run the network: {error}".splitlines()[0]) from error
    layer = called[0] if called else None
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same"
        return layer if plain else None
    return layer if isinstance(layer, nn.Linear) else None


def _called(network: nn.Module, view: View, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The input and the output of a layer's first call, for inputs of the network; the global generator stays."""
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        seen.append((arguments[0], output))

    with layer.register_forward_hook(note), torch.random.fork_rng(devices=[]):
        view.task.output(network, inputs)
    return seen[0]


def _positions(
    network: nn.Module, view: View, layer: nn.Module, others: Mapping[str, Tensor]
) -> tuple[str, Tensor] | None:
    """The parameter whose gradient holds the slopes δ (P, D) at a layer's outputs, and where it holds each of them."""
    probes = [_slopes(network, view, layer, list(others.values()), seed) for seed in (1, 2)]
    if any(slopes is None for slopes, _ in probes):
        return None
    for place, name in enumerate(others):
        (first, one), (second, other) = ((s, gradients[place]) for s, gradients in probes)
        if one is None or other is None or first is None or second is None or one.numel() < first.numel():
            continue
        values, order = one.flatten().sort()
        behind = torch.searchsorted(values, first).clamp(max=len(values) - 1)
        near = torch.stack([(behind - 1).clamp_min(0), behind])
        places = order[near.gather(0, (values[near] - first).abs().argmin(0, keepdim=True))[0]]
        same = all(
            bool((gradient.flatten()[places] - slopes).abs().max() <= EXACT * slopes.abs().max())
            for gradient, slopes in ((one, first), (other, second))
        )
        if same and len(places.unique()) == places.numel():
            return name, places
    return None


def _slopes(
    network: nn.Module, view: View, layer: nn.Module, parameters: list[Tensor], seed: int
) -> tuple[Tensor | None, Sequence[Tensor | None]]:
    """δ (P, D) at a layer's outputs and the gradients of parameters, for one input at random."""
    random, seen = torch.Generator().manual_seed(seed), list[Tensor]()
    inputs = view.task.domain.sample(1, random=random).double()
    targets = view.task.loss.sample(1, random=random)
    note = layer.register_forward_hook(lambda module, arguments, output: seen.append(output))
    with note, torch.random.fork_rng(devices=[]):
        value = view.task.value(network, inputs, targets)
    slope, *gradients = torch.autograd.grad(value, [seen[0], *parameters], allow_unused=True)
    if slope is None or len(seen) > 1:
        return None, gradients
    rows = slope[0].flatten(1).mT if isinstance(layer, nn.Conv2d) else slope.reshape(-1, slope.shape[-1])
    return rows.contiguous(), gradients
