"""What a network's batch-norm layers remember of the images it was trained on, held against candidates.

H. Yin et al., "See through gradients: Image batch recovery via GradInversion", CVPR 2021, eq. 9.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.engine.norms import normalise, scale
from gradwire.errors import GradwireError
from gradwire.wire.view import Mode


class Statistics:
    """Images of V victims → how far their statistics are from the running ones.

    It takes a forward pass of its own, for the engine's paths have no place in common where activations are seen.

    Args:
        model: the network as the adversary knows it; it is copied.
        mode: how victims ran it.
        device: where the images will be.

    Raises:
        GradwireError: the model has no batch norm that keeps running statistics.
    """

    def __init__(self, model: nn.Module, mode: Mode, device: str = "cpu"):
        self._network = copy.deepcopy(model).to(device).train(mode == "train").requires_grad_(False)
        self._victims = 1
        self._found: list[Tensor] = []
        kept = 0
        for layer in self._network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None:
                layer.forward = partial(self._noting, layer)  # type: ignore[method-assign]
                kept += 1
        if not kept:
            raise GradwireError(f"model {type(model).__name__} has no batch norm whose statistics could be a prior")

    def distance(self, images: Tensor) -> Tensor:
        """Σ_l ‖μ_l(x) − μ_l‖₂ + ‖σ²_l(x) − σ²_l‖₂ over layers l, for images (V, B, C, H, W); shape (V,)."""
        self._victims, self._found = len(images), []
        self._network(images.flatten(0, 1))
        found, self._found = self._found, []
        return torch.stack(found).sum(0)

    def _noting(self, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
        each = x.unflatten(0, (self._victims, -1))
        variance, mean = torch.var_mean(each, (1, *range(3, each.ndim)), correction=0)
        for own, running in ((mean, layer.running_mean), (variance, layer.running_var)):
            assert running is not None
            self._found.append((own - running).norm(dim=1))
        return scale(layer, normalise(layer, x, self._victims))
