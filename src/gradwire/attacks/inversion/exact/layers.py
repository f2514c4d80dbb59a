"""What a forward pass tells of layers: how many vectors each one received."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradwire.engine import wide_copy
from gradwire.models.mode import set_mode
from gradwire.seeds import drawing
from gradwire.wire import View

Batched = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class TracedLayers:
    """The linear and convolutional layers of a network, as one forward pass of a batch met them.

    Attributes:
        vectors: weight → how many vectors the layer received: the gradient is a sum of as many outer products, and has
            no larger rank. Only of weights that nothing but their own layer was seen to use.
    """

    vectors: dict[str, int]

    @classmethod
    def of(cls, view: View) -> "TracedLayers":
        """Trace a victim's network with a batch at random; one that cannot be run tells nothing."""
        network = set_mode(wide_copy(view.model, "cpu"), view.mode)
        modules = {name: m for name, m in network.named_modules() if isinstance(m, Batched)}
        names = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
        owners = Counter(id(p) for m in network.modules() for p in m.parameters(recurse=False))
        vectors: Counter[str] = Counter()

        def note(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            vectors[names.get(id(module.weight), "")] += received(module, arguments[0], output)

        for module in modules.values():
            module.register_forward_hook(note)
        task, random = view.task, torch.Generator().manual_seed(0)
        inputs = task.domain.sample(view.shape[0], random=random)
        targets = task.loss.derived(inputs) if task.loss.from_inputs else None
        try:
            with drawing(0), torch.no_grad():
                task.output(network, inputs, targets=targets)
        except Exception:  # the model is the user's, and may refuse such a batch
            return cls({})
        alone = {names[id(m.weight)] for m in modules.values() if id(m.weight) in names and owners[id(m.weight)] == 1}
        return cls({name: count for name, count in vectors.items() if name in alone})


def received(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """The vectors that a layer multiplied with its weight in one call: inputs, or the patches under a kernel."""
    if isinstance(layer, nn.Conv2d):
        return output.numel() // output.shape[1]
    return inputs.numel() // inputs.shape[-1]
