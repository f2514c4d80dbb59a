"""The fast path: one ordinary forward pass of all victims' images as one batch, one backward pass to layer outputs.

Victims do not mix: each example's loss depends on its own victim's examples only (batch norm in training mode is
computed a victim at a time), so the slope of the sum of all losses at a layer's output holds every victim's δ side
by side, and `rules` turns it, with the layer's input, into each victim's gradient.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import vmap

from gradwire.engine.choice import Unsupported, unfused
from gradwire.engine.norms import affine, normalise, scale
from gradwire.engine.rules import RULES, Rule, unsupported
from gradwire.models.mode import copied, forward, set_mode
from gradwire.schemes.gradients import Full, Gradient
from gradwire.wire.view import Loss, Mode


@dataclass(frozen=True)
class Call:
    """One layer's part in a forward pass."""

    prefix: str
    layer: nn.Module
    rule: Rule
    inputs: Tensor
    output: Tensor


class Batched:
    """Candidates of V victims → the gradient that each would have sent, as products where it is one.

    Raises:
        Unsupported: a parameter that belongs to no layer of a known type, or to two.
    """

    def __init__(self, model: nn.Module, mode: Mode, loss: Loss):
        self._victims = 1
        self._calls: list[Call] = []
        self._loss = vmap(loss, randomness="different")
        owners = [id(p) for module in model.modules() for p in module.parameters(recurse=False)]
        network = self._network = set_mode(copied(model), mode).requires_grad_(False)
        self._shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        for name, layer in list(network.named_modules()):
            own = list(model.get_submodule(name).parameters(recurse=False))
            if hasattr(layer, "inplace"):
                # The slope is taken at what a layer put out, which must still be there.
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
            self._watch(name, layer)

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        """Gradients for images (V, B, C, H, W) and labels (V, B), differentiable in the images."""
        self._victims, self._calls = len(images), []
        with unfused(self._network):
            logits = forward(self._network, images.flatten(0, 1))
            losses = self._loss(logits.unflatten(0, labels.shape[:2]), labels)
            calls, self._calls = self._calls, []
            slopes = torch.autograd.grad(losses.sum(), [call.output for call in calls], create_graph=True)
        found: dict[str, Gradient] = {}
        for call, slope in zip(calls, slopes, strict=True):
            for own, gradient in call.rule(call.layer, call.inputs, slope, self._victims).items():
                name = f"{call.prefix}{own}"
                if name in self._shapes:
                    found[name] = gradient if name not in found else Full(found[name].full() + gradient.full())
        for name, shape in self._shapes.items():
            if name not in found:
                found[name] = Full(logits.new_zeros(len(images), *shape))
        return {name: found[name] for name in self._shapes}

    def _watch(self, name: str, layer: nn.Module) -> None:
        """Note what goes in and comes out of a layer with parameters; take normalisation apart in two steps."""
        rule, prefix = RULES.get(type(layer)), f"{name}." if name else ""
        if rule is affine:
            layer.forward = partial(self._normalising, prefix, layer)
        elif rule is not None:
            layer.register_forward_hook(self._note(prefix, rule))

    def _note(self, prefix: str, rule: Rule):  # type: ignore[no-untyped-def]
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                # A lookup of indices: nothing upstream asks for a slope, but the parameter does.
                output = output.requires_grad_()
            self._calls.append(Call(prefix, layer, rule, arguments[0], output))
            return output

        return hook

    def _normalising(self, prefix: str, layer: nn.Module, x: Tensor) -> Tensor:
        normalised = normalise(layer, x, self._victims)
        output = scale(layer, normalised)
        if next(layer.parameters(), None) is not None:
            self._calls.append(Call(prefix, layer, affine, normalised, output))
        return output
