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

from gradwire.engine.choice import Unsupported, unfused
from gradwire.engine.convolution import conv2d
from gradwire.engine.linear import linear
from gradwire.engine.norms import NORMS, affine, normalise, scale
from gradwire.models.mode import copied, logits, set_mode
from gradwire.schemes.gradients import Full, Gradient
from gradwire.tasks import Task
from gradwire.wire.view import Mode

Rule = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Gradient]]
"""(layer, input, slope at the output, V) → the layer's own parameter name → gradient."""


def embedding(layer: nn.Module, inputs: Tensor, slope: Tensor, victims: int) -> dict[str, Gradient]:
    """Row i collects the slopes at the places where i was looked up."""
    assert isinstance(layer, nn.Embedding)
    looked_up = inputs.reshape(victims, -1)
    delta = slope.reshape(victims, looked_up.shape[1], -1)
    if layer.padding_idx is not None:
        delta = delta * (looked_up != layer.padding_idx).unsqueeze(-1)
    empty = torch.zeros(victims, *layer.weight.shape, dtype=slope.dtype, device=slope.device)
    index = looked_up.unsqueeze(-1).expand_as(delta)
    return {"weight": Full(empty.scatter_add(1, index, delta))}


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
    **dict.fromkeys(NORMS, affine),
    nn.Embedding: embedding,
}


def unsupported(layer: nn.Module) -> str | None:
    """Why no rule gives the gradients of a layer with parameters, or None."""
    kind = type(layer)
    if kind not in RULES:
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
        owners = [id(p) for module in model.modules() for p in module.parameters(recurse=False)]
        network = self._network = set_mode(copied(model), mode).requires_grad_(False)
        self._trained = {name: network.get_parameter(name) for name, p in model.named_parameters() if p.requires_grad}
        for name, layer in list(network.named_modules()):
            own = list(model.get_submodule(name).parameters(recurse=False))
            if hasattr(layer, "inplace"):
                # The slope is taken at the layer's output, which must not be overwritten.
                layer.inplace = False
            reason = None
            if layer._forward_pre_hooks:
                reason = f"{type(layer).__name__} has hooks before its forward pass"
            elif any(p.requires_grad for p in own):
                reason = unsupported(layer)
                if reason is None and any(owners.count(id(p)) > 1 for p in own):
                    reason = f"{type(layer).__name__} shares a parameter with another layer"
            if reason is not None:
                raise Unsupported(f"{name or 'the model itself'}: {reason}")
            rule, prefix = RULES.get(type(layer)), f"{name}." if name else ""
            if rule is affine:
                # Normalisation is computed in two steps.
                layer.forward = partial(self._normalising, prefix, layer)
            elif rule is not None:
                layer.register_forward_hook(partial(self._note, prefix, rule))

    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Gradient]:
        """Gradients for inputs (V, B, *shape) and targets (V, B, …), differentiable in the inputs."""
        self._victims, self._examples, self._calls = len(inputs), inputs.shape[:2].numel(), []
        with unfused(self._network):
            scores = logits(self._task.output(self._network, inputs.flatten(0, 1)))
            losses = self._loss(scores.unflatten(0, inputs.shape[:2]), targets)
            calls, self._calls = self._calls, []
            slopes = torch.autograd.grad(losses.sum(), [output for *_, output in calls], create_graph=True)
        found: dict[str, Gradient] = {}
        for (prefix, layer, rule, entered, _), slope in zip(calls, slopes, strict=True):
            for own, gradient in rule(layer, entered, slope, self._victims).items():
                name = f"{prefix}{own}"
                if name in self._trained:
                    found[name] = gradient if name not in found else Full(found[name].full() + gradient.full())
        idle = {name: p for name, p in self._trained.items() if name not in found}
        found |= {name: Full(p.new_zeros(len(inputs), *p.shape)) for name, p in idle.items()}
        return {name: found[name] for name in self._trained}

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

    def _normalising(self, prefix: str, layer: nn.Module, x: Tensor) -> Tensor:
        normalised = normalise(layer, x, self._victims)
        output = scale(layer, normalised)
        if next(layer.parameters(), None) is not None:
            self._calls.append((prefix, layer, affine, normalised, output))
        return output
