"""Which path computes the gradients: the fastest one that is right, which is tried before it is trusted."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.engine.batched import Batched, Unsupported
from gradwire.attacks.inversion.engine.functional import Functional
from gradwire.attacks.inversion.engine.plain import Plain
from gradwire.models.bottleneck import VariationalBottleneck
from gradwire.schemes.gradients import Gradient
from gradwire.wire.view import Loss, Mode

Path = Callable[[Tensor, Tensor], dict[str, Gradient]]
"""(images (V, B, C, H, W), labels (V, B)) → parameter name → gradients of V victims."""
PATHS: Mapping[str, Callable[[nn.Module, Mode, Loss], Path]] = {
    "batched": Batched,
    "functional": Functional,
    "plain": Plain,
}
"""As a rule the fastest first; the last one is what the others are compared with."""
THIN = 16
"""On a CPU, products with a weight of fewer rows leave most of the vector units idle (`gradwire bench inversion`)."""
TOLERANCE = 1e-6
"""Relative difference, in float64, beyond which two paths are held to disagree."""


@dataclass(frozen=True)
class Engine:
    """A path, what it is called, and why each faster one was not taken."""

    gradients: Path
    path: str
    reasons: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report has to say of it."""
        return (f"gradients by the {self.path} path" + "".join(f"; {reason}" for reason in self.reasons),)


def engine(model: nn.Module, mode: Mode, loss: Loss, shape: tuple[int, ...], device: str = "cpu") -> Engine:
    """The path to attack a model with.

    The order in which paths are tried depends on shapes alone, never on a clock: a seed has to give the same table
    twice. Each is compared with plain autograd first, gradients and slopes of two victims' random batches in float64:
    a model that uses a parameter outside its layer, mixes examples in a way of its own, or meets a fault of PyTorch's
    is caught there. What is drawn anew each time (dropout's masks, a bottleneck's noise) is left out of the comparison.

    Args:
        model: the network; it is copied.
        mode: how victims ran it.
        loss: of logits and labels.
        shape: (B, C, H, W) of a victim's batch.
    """
    network = copy.deepcopy(model).to(device)
    reasons: list[str] = []
    for name in _by_speed(model, device):
        path = PATHS[name]
        reason = None if path is Plain else _fault(path, model, mode, loss, shape)
        if reason is None:
            return Engine(path(network, mode, loss), name, tuple(reasons))
        reasons.append(f"not {name}: {reason}")
    raise AssertionError("the plain path is always taken")


def _by_speed(model: nn.Module, device: str) -> list[str]:
    """Names of paths, the fastest for this model first."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    thin = bool(convolutions) and all(m.out_channels < THIN for m in convolutions)
    return ["functional", "batched", "plain"] if thin and device == "cpu" else list(PATHS)


def _fault(
    path: Callable[[nn.Module, Mode, Loss], Path], model: nn.Module, mode: Mode, loss: Loss, shape: tuple[int, ...]
) -> str | None:
    """What is wrong with a path for this model, or None."""
    exact = copy.deepcopy(model).to("cpu", torch.float64)
    for module in exact.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, VariationalBottleneck):
            module.hold(1.0)
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, *shape, generator=random, dtype=torch.float64)
    labels = torch.randint(2, (2, shape[0]), generator=random)
    try:
        found = _probe(path(exact, mode, loss), images, labels)
    except Unsupported as reason:
        return str(reason)
    except (RuntimeError, ValueError) as error:
        return f"it fails: {str(error).splitlines()[0]}"
    for name, right in _probe(Plain(exact, mode, loss), images, labels).items():
        off = float((found[name] - right).norm())
        if not off <= TOLERANCE * float(right.norm()) + 1e-12:
            return f"it is wrong for {name}, by {off:.2g} in {float(right.norm()):.2g}"
    return None


def _probe(path: Path, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients, and the slope of a fixed projection of them all in the images."""
    candidates = images.clone().requires_grad_()
    gradients = {name: gradient.full() for name, gradient in path(candidates, labels).items()}
    random = torch.Generator().manual_seed(1)
    projected = sum((g * torch.randn(g.shape, generator=random, dtype=g.dtype)).sum() for g in gradients.values())
    (slope,) = torch.autograd.grad(projected, candidates)  # type: ignore[arg-type]
    return {name: g.detach() for name, g in gradients.items()} | {"the slope in the images": slope}
