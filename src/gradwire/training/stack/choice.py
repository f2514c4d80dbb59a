"""Which way the networks of a stack are run: the fastest one that is right, which is tried before it is trusted."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gradwire.training.gradient import in_mode
from gradwire.training.settings import Precision
from gradwire.training.stack.affine import Unsupported
from gradwire.training.stack.layered import Layered, Rowwise
from gradwire.training.stack.networks import Networks, Slopes
from gradwire.training.stack.paths import Functional, Losses, Path, Plain, each
from gradwire.wire.view import Mode

PATHS: Mapping[str, Callable[[nn.Module, Mode, Losses], Path]] = {
    "rowwise": Rowwise,
    "layered": Layered,
    "functional": Functional,
    "plain": Plain,
}
"""The last one is what the others are compared with."""
BUSY = 2_000_000
"""Floating-point operations in the convolutions of one image beyond which one network's keep a CPU's core busy: small
ones of several networks gain from being one product, large ones lose by being copied for it."""
TOLERANCE = 1e-6
"""Relative difference, in float64, beyond which two paths are held to disagree."""


@dataclass(frozen=True)
class Stack:
    """A way to run many networks of one architecture.

    Attributes:
        path: what the way is called; `reasons`: why each faster one was not taken.
        precision: of the forward and backward products; "bf16" keeps parameters and gradients in float32.
    """

    run: Path
    path: str
    reasons: tuple[str, ...] = ()
    precision: Precision = "fp32"

    def slopes(self, networks: Networks, images: Tensor, labels: Tensor, weights: Tensor | None = None) -> Slopes:
        """Losses, gradients and buffers of N networks, each on a batch of its own.

        Args:
            images: shape (N, B, C, H, W), on the networks' device.
            labels: int64, shape (N, B).
            weights: of the examples, shape (N, B); 0 leaves one out, so that batches of fewer than B examples are
                filled up with anything and count exactly. By default all count alike.
        """
        if weights is None:
            weights = images.new_ones(labels.shape)
        if self.precision == "fp32":
            return self.run(networks, images, labels, weights)
        if isinstance(self.run, Layered):
            return self.run(networks, images.bfloat16(), labels, weights)
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.run(networks, images, labels, weights)

    @property
    def draws_apart(self) -> bool:
        """Whether each network draws from the generator that `Networks.draws` has for it, and nothing else is drawn."""
        return isinstance(self.run, Layered) and self.run.draws_apart

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report has to say of it."""
        return (f"networks run together by the {self.path} path" + "".join(f"; {r}" for r in self.reasons),)


def stack(
    model: nn.Module,
    shape: tuple[int, int, int],
    mode: Mode = "train",
    losses: Losses = each,
    *,
    ragged: bool = False,
    device: str = "cpu",
    path: str | None = None,
) -> Stack:
    """The way to run many networks of this architecture.

    The order in which paths are tried depends on the model and the device, never on a clock: a seed has to give the
    same table twice. Each is compared with one network after another first, on random batches in float64. Dropout is
    left out of the comparison: it draws other masks for networks together than for each alone.

    Args:
        model: the architecture; its parameters do not matter.
        shape: channels, height, width of an image.
        losses: one an example.
        ragged: whether there will be weights of 0. Models that mix examples (batch norm while training) then run one
            after another, for padding would change what they compute.
        path: the name of a path to take without further ado.
    """
    if path is not None:
        return Stack(PATHS[path](model, mode, losses), path)
    reasons: list[str] = []
    for name in _by_speed(model, shape, device):
        make = PATHS[name]
        reason = None if make is Plain else _fault(make, model, shape, mode, losses, ragged)
        if reason is None:
            return Stack(make(copy.deepcopy(model).to(device), mode, losses), name, tuple(reasons))
        reasons.append(f"not {name}: {reason}")
    raise AssertionError("the plain path is always taken")


def _by_speed(model: nn.Module, shape: tuple[int, int, int], device: str) -> Sequence[str]:
    """Names of paths, the fastest for this model first."""
    if torch.device(device).type != "cpu":
        return "functional", "layered", "plain"
    if busy(model, shape):
        return "rowwise", "plain"
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return "layered" if convolutional else "rowwise", "functional", "plain"


def busy(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether one network on the CPU keeps a core of it busy."""
    with FlopCounterMode(display=False) as counter, in_mode(model, "eval"), torch.no_grad():
        model(torch.zeros(1, *shape, dtype=next(model.parameters()).dtype))
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) > BUSY


def _fault(
    make: Callable[[nn.Module, Mode, Losses], Path],
    model: nn.Module,
    shape: tuple[int, int, int],
    mode: Mode,
    losses: Losses,
    ragged: bool,
) -> str | None:
    """What is wrong with a path for this model, or None."""
    exact = copy.deepcopy(model).to("cpu", torch.float64)
    for module in exact.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *shape, generator=random, dtype=torch.float64)
    labels = torch.randint(2, (2, 3), generator=random)
    weights = torch.ones(2, 3, dtype=torch.float64)
    if ragged:
        weights[1, 2] = 0
    networks = Networks.repeat(exact, 2)
    for tensor in networks.parameters.values():
        tensor += 0.01 * torch.rand(tensor.shape, generator=random, dtype=torch.float64)
    right = Plain(exact, mode, losses)(networks, images, labels, weights)
    try:
        found = make(exact, mode, losses)(networks, images, labels, weights)
    except Unsupported as reason:
        return str(reason)
    except (RuntimeError, ValueError) as error:
        return f"it fails: {str(error).splitlines()[0]}"
    for name, due in {"the losses": right.losses, **right.gradients, **right.buffers}.items():
        got = {"the losses": found.losses, **found.gradients, **found.buffers}[name].double()
        off, size = float((got - due.double()).norm()), float(due.double().norm())
        if not off <= TOLERANCE * size + 1e-12:
            why = "padding changes" if ragged else "it is wrong for"
            return f"{why} {name}, by {off:.2g} in {size:.2g}"
    return None
