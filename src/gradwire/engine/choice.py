"""The choice of a path: the fastest one that gives the results of the plain one on the model at hand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.backends import cuda, mha

from gradwire.errors import GradwireError
from gradwire.models.mode import NARROW, copied, failure, floating

TOLERANCE = 1e-6
"""Relative difference, in float64, beyond which two paths are held to disagree."""
FUSED: Sequence[tuple[Callable[[], bool], Callable[[bool], None]]] = (
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
    (mha.get_fastpath_enabled, mha.set_fastpath_enabled),
)
"""Switches of the fused kernels of attention: whether each is on, and how to turn it."""
Run = TypeVar("Run")
Results = Mapping[str, Tensor]
Probe = Callable[[str, nn.Module], Results]
"""(a path's name, a model) → what the path computes with it from the same random inputs each time, by name."""


class Unsupported(GradwireError):
    """A model that a path cannot take, and why."""


@dataclass(frozen=True)
class Chosen(Generic[Run]):
    """A path that was chosen: its name, and the reasons why each faster one was not taken."""

    what: ClassVar[str] = "computed"

    run: Run
    path: str
    reasons: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the report."""
        said = f"{self.what} by the {self.path} path, which decides how fast they come and no figure"
        return ("; ".join([said, *self.reasons]),)


def choose(
    order: Sequence[str], probe: Probe, model: nn.Module, wrong: str = "it is wrong for"
) -> tuple[str, tuple[str, ...]]:
    """The name of the first path that computes what the plain one does, and why each one before it was not taken.

    Paths are compared in float64 on the CPU, without dropout. This catches models that use a parameter outside its
    layer, mix examples, or meet a fault of PyTorch's.

    Args:
        order: names of paths, the fastest first and the plain one last. It must depend on shapes alone, not on a
            clock, so that a seed gives the same table twice.
        wrong: the words for results that differ.
    """
    *faster, plain = order
    reasons: list[str] = []
    right: Results | None = None
    exact = _exact(model)
    for name in faster:
        try:
            right = probe(plain, exact) if right is None else right
        except Exception as error:
            # The model may work in its own type only, in which nothing can be compared.
            reasons.append(f"not {name}: float64, in which paths are compared, fails: {failure(error)}")
            break
        try:
            reason = _difference(probe(name, exact), right, wrong)
            if reason is None and floating(model) in NARROW:
                probe(name, copied(model))
        except Unsupported as error:
            reason = str(error)
        except Exception as error:
            reason = f"it fails: {failure(error)}"
        if reason is None:
            return name, tuple(reasons)
        reasons.append(f"not {name}: {reason}")
    try:
        probe(plain, copied(model))
    except GradwireError:
        raise
    except Exception as error:
        kind, dtype = type(model).__name__, str(floating(model)).removeprefix("torch.")
        raise GradwireError(f"model {kind} in {dtype} cannot be differentiated: {failure(error)}") from error
    return plain, tuple(reasons)


def _difference(found: Results, right: Results, wrong: str) -> str | None:
    """The first difference of two paths' results, or None."""
    for key, due in right.items():
        off, size = float((found[key].double() - due.double()).norm()), float(due.double().norm())
        if not off <= TOLERANCE * size + 1e-12:
            return f"{wrong} {key}, by {off:.2g} in {size:.2g}"
    return None


def _exact(model: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU without dropout."""
    exact = copied(model).to("cpu", torch.float64)
    for module in exact.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
    return exact


@contextmanager
def unfused(network: nn.Module) -> Iterator[None]:
    """Turn off fused kernels that have no second derivatives or do not run under vmap.

    These are the kernels of attention, of encoder layers and of cuDNN's recurrent layers.
    """
    cudnn = torch.backends.cudnn
    before, cudnn_before = [enabled() for enabled, _ in FUSED], cudnn.enabled
    try:
        for _, enable in FUSED:
            enable(False)
        if torch.cuda.is_initialized() and any(isinstance(module, nn.RNNBase) for module in network.modules()):
            cudnn.enabled = False
        yield
    finally:
        for (_, enable), value in zip(FUSED, before, strict=True):
            enable(value)
        cudnn.enabled = cudnn_before
