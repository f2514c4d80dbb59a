"""The gradients of many victims' candidate batches at once, differentiable in the candidates.

The always-right path: `torch.func.vmap` over `torch.func.grad` of the whole model.
"""

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap

from gradwire.wire.view import Mode

Gradients = dict[str, Tensor]


class VictimGradients:
    """Candidates of V victims → the gradient that each would have sent.

    Victims never mix: with batch norm in training mode each has the statistics of its own batch.
    """

    def __init__(self, model: nn.Module, mode: Mode, loss: Callable[[Tensor, Tensor], Tensor], device: str):
        network = copy.deepcopy(model).to(device).train(mode == "train")
        if mode == "train":
            # The batch's own statistics are all that training mode uses; running ones would be updated in place.
            replace_all_batch_norm_modules_(network)
        parameters = {name: p.detach() for name, p in network.named_parameters()}
        self._varied = {name: p for name, p in parameters.items() if network.get_parameter(name).requires_grad}
        fixed = {name: p for name, p in parameters.items() if name not in self._varied} | dict(network.named_buffers())

        def value(varied: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return loss(functional_call(network, {**varied, **fixed}, (images,)), labels)

        self._gradients = vmap(grad(value), in_dims=(None, 0, 0), randomness="different")

    def __call__(self, images: Tensor, labels: Tensor) -> Gradients:
        """Gradients of shape (V, *parameter) for images (V, B, C, H, W) and labels (V, B)."""
        return self._gradients(self._varied, images, labels)
