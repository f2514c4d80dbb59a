"""The fast path: one ordinary forward pass of all victims' images as one batch, one backward pass to layer outputs.

Victims do not mix: each example's loss depends on its own victim's examples only (batch norm in training mode is
computed a victim at a time), so the slope of the sum of all losses at a layer's output holds every victim's δ = ∂L/∂y
side by side. For each type of layer a rule turns its input and δ into each victim's gradient.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import layer_norm

from gradwire.engine.choice import Unsupported, unfused
from gradwire.engine.convolution import conv2d
from gradwire.engine.linear import linear, transposed
from gradwire.engine.lookup import Summed, embedding
from gradwire.engine.norms import NORMS, affine, normalise, scale
from gradwire.models.mode import copied, logits, set_mode
from gradwire.schemes.gradients import Full, Gradient
from gradwire.tasks import OwnLoss, Task
from gradwire.wire.view import Mode

Rule = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Gradient]]
"""(layer, input, slope at the output, V) → the layer's own parameter name → gradient."""


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
    **dict.fromkeys(NORMS, affine),
    nn.Embedding: embedding,
}
OUTSIDE: Mapping[str, Rule] = {"transformers.pytorch_utils.Conv1D": transposed}
"""Rules of layers of libraries that need not be there, by the full name of their type."""


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule for a layer of this very type, not of a subclass, which may compute something else."""
    kind = type(layer)
    return RULES.get(kind) or OUTSIDE.get(f"{kind.__module__}.{kind.__qualname__}")


def unsupported(layer: nn.Module) -> str | None:
    """Why no rule gives the gradients of a layer with parameters, or None."""
    kind = type(layer)
    if rule_of(layer) is None:
        return f"{kind.__name__} has parameters of its own"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"Conv2d pads with {layer.padding_mode!r}"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse):
        return "Embedding renormalises, rescales or has sparse gradients"
    return None


class Batched:
    """Candidates of V victims → the gradient that each would have sent, as a product where it is one."""

    def __init__(self, model: nn.Module, mode: Mode, task: Task):
        if task.loss.reported:
            raise Unsupported("the model reports one loss of all examples")
        self._victims, self._examples = 1, 1
        self._calls: list[tuple[str, nn.Module, Rule, Tensor, Tensor]] = []
        self._task, self._loss = task, vmap(task.loss, randomness="different")
        # Slopes in discrete inputs do not exist, so that no graph is kept for them.
        self._again = task.domain.continuous
        network = self._network = set_mode(copied(model), mode).requires_grad_(False)
        self._trained = {name: network.get_parameter(name) for name, p in model.named_parameters() if p.requires_grad}
        # A parameter of several layers (a tied embedding) has the first one's name.
        names = {id(p): name for name, p in self._trained.items()}
        self._owned = {
            full: names[id(p)] for full, p in network.named_parameters(remove_duplicate=False) if id(p) in names
        }
        for name, layer in list(network.named_modules()):
            prefix = f"{name}." if name else ""
            own = (key for key, p in layer.named_parameters(recurse=False, remove_duplicate=False))
            trained = any(f"{prefix}{key}" in self._owned for key in own)
            if hasattr(layer, "inplace"):
                # The slope is taken at the layer's output, which must not be overwritten.
                layer.inplace = False
            reason = None
            if layer._forward_pre_hooks:
                reason = f"{type(layer).__name__} has hooks before its forward pass"
            elif trained:
                reason = unsupported(layer)
            if reason is not None:
                raise Unsupported(f"{name or 'the model itself'}: {reason}")
            rule = rule_of(layer)
            if rule is affine:
                # Normalisation is computed in two steps.
                layer.forward = partial(self._normalising, prefix, layer, trained)
            elif rule is not None and trained:
                layer.register_forward_hook(partial(self._note, prefix, rule))

    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
        """Gradients for inputs (V, B, *shape) and targets (V, B, …), differentiable in continuous inputs."""
        self._victims, self._examples, self._calls = len(inputs), inputs.shape[:2].numel(), []
        with unfused(self._network), torch.enable_grad():
            output = self._task.output(self._network, inputs.flatten(0, 1))
            if isinstance(self._task.loss, OwnLoss) and not isinstance(output, Tensor):
                raise Unsupported("a loss of one's own takes the model's output as it comes, which is no single tensor")
            scores = logits(output)
            losses = self._loss(scores.unflatten(0, inputs.shape[:2]), targets)
            calls, self._calls = self._calls, []
            ends = [output for *_, output in calls]
            slopes = torch.autograd.grad(losses.sum(), ends, create_graph=self._again, allow_unused=True)
        parts: dict[str, list[Gradient]] = {name: [] for name in self._trained}
        for (prefix, layer, rule, entered, _), slope in zip(calls, slopes, strict=True):
            if slope is None:
                continue
            given = entered if self._again else entered.detach()
            for own, gradient in rule(layer, given, slope, self._victims).items():
                if (name := self._owned.get(f"{prefix}{own}")) is not None:
                    parts[name].append(gradient)
        return {name: self._whole(name, found, len(inputs)) for name, found in parts.items()}

    def _whole(self, name: str, parts: list[Gradient], victims: int) -> Gradient:
        """A parameter's gradient from those of the places where it is used; zeros where there is none."""
        if len(parts) == 1:
            return parts[0]
        parameter = self._trained[name]
        return Summed(parts) if parts else Full(parameter.new_zeros(victims, *parameter.shape))

    def _note(self, prefix: str, rule: Rule, layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        entered = arguments[0]
        if isinstance(layer, nn.Embedding) and len(entered) == 1 < self._examples:
            # Positions, which are the same for every example: each has a slope of its own.
            entered, output = (t.expand(self._examples, *t.shape[1:]) for t in (entered, output))
        if not output.requires_grad:
            # A lookup of indices: nothing upstream asks for a slope, but the parameter does.
            output = output.requires_grad_()
        self._calls.append((prefix, layer, rule, entered, output))
        return output

    def _normalising(self, prefix: str, layer: nn.Module, trained: bool, x: Tensor) -> Tensor:
        if not self._again and isinstance(layer, nn.LayerNorm):
            # PyTorch's fused kernel is quicker, and right where nothing is differentiated twice.
            normalised = layer_norm(x, layer.normalized_shape, eps=layer.eps)
        else:
            normalised = normalise(layer, x, self._victims)
        output = scale(layer, normalised)
        if trained:
            output = output if output.requires_grad else output.requires_grad_()
            self._calls.append((prefix, layer, affine, normalised, output))
        return output
