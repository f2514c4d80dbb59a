"""The general path: `torch.func.vmap` over `torch.func.grad` of the whole model."""

import copy

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gradwire.attacks.inversion.engine.norms import spell_out
from gradwire.schemes.gradients import Full, Gradient
from gradwire.wire.view import Loss, Mode


class Functional:
    """Candidates of V victims → the gradient that each would have sent, formed in full."""

    def __init__(self, model: nn.Module, mode: Mode, loss: Loss):
        network = copy.deepcopy(model).train(mode == "train")
        spell_out(network)
        parameters = {name: p.detach() for name, p in network.named_parameters()}
        self._varied = {name: p for name, p in parameters.items() if network.get_parameter(name).requires_grad}
        fixed = {name: p for name, p in parameters.items() if name not in self._varied} | dict(network.named_buffers())

        def value(varied: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return loss(functional_call(network, {**varied, **fixed}, (images,)), labels)

        self._gradients = vmap(grad(value), in_dims=(None, 0, 0), randomness="different")

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """Gradients for images (V, B, C, H, W) and labels (V, B), differentiable in the images."""
        return {name: Full(g) for name, g in self._gradients(self._varied, images, labels).items()}
