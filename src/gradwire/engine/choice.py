"""Which path computes something of a model: the fastest one that is right, which is tried before it is trusted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradwire.errors import GradwireError
from gradwire.models.mode import NARROW, copied, failure, floating

TOLERANCE = 1e-6
"""Relative difference, in float64, beyond which two paths are held to disagree."""
Run = TypeVar("Run")
Results = Mapping[str, Tensor]
Probe = Callable[[str, nn.Module], Results]
"""(a path's name, a model) → what the path computes of it from the same random inputs each time, by name."""


class Unsupported(GradwireError):
    """A model that a path cannot take, and why."""


@dataclass(frozen=True)
class Chosen(Generic[Run]):
    """A path that was chosen.

    Attributes:
        path: its name; `reasons`: why each faster one was not taken.
    """

    what: ClassVar[str] = "computed"

    run: Run
    path: str
    reasons: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report has to say of it."""
        return (f"{self.what} by the {self.path} path" + "".join(f"; {reason}" for reason in self.reasons),)


def choose(order: Sequence[str], probe: Probe, model: nn.Module, wrong: str = "it is wrong for") -> tuple:
    """The name of the first path that computes what the plain one does, and why each one before it was not taken.

    Paths are compared in float64 on the CPU. A model that uses a parameter outside its layer, mixes examples in a way
    of its own, or meets a fault of PyTorch's is caught there. Dropout is left out, for it draws anew each time.

    Args:
        order: names of paths, the fastest first and the plain one last. It must depend on shapes alone, never on a
            clock: a seed has to give the same table twice.
        wrong: how to say that results differ.

    Raises:
        GradwireError: the plain path cannot take the model either.
    """
    *faster, plain = order
    reasons: list[str] = []
    try:
        exact = _exact(model)
        right = probe(plain, exact)
    except Exception as error:
        # A model may insist on a type of its own, in which nothing can be compared.
        _insist(plain, probe, model)
        return plain, tuple(f"not {name}: it cannot be compared in float64: {failure(error)}" for name in faster)
    for name in faster:
        reason = _fault(name, probe, exact, model, right, wrong)
        if reason is None:
            return name, tuple(reasons)
        reasons.append(f"not {name}: {reason}")
    if floating(model) in NARROW:
        _insist(plain, probe, model)
    return plain, tuple(reasons)


def _fault(name: str, probe: Probe, exact: nn.Module, model: nn.Module, right: Results, wrong: str) -> str | None:
    """What is wrong with a path for this model, or None."""
    try:
        found = probe(name, exact)
        if floating(model) in NARROW:
            probe(name, copied(model))
    except Unsupported as reason:
        return str(reason)
    except Exception as error:
        return f"it fails: {failure(error)}"
    for key, due in right.items():
        off, size = float((found[key].double() - due.double()).norm()), float(due.double().norm())
        if not off <= TOLERANCE * size + 1e-12:
            return f"{wrong} {key}, by {off:.2g} in {size:.2g}"
    return None


def _insist(plain: str, probe: Probe, model: nn.Module) -> None:
    """Run the plain path in the model's own type, and refuse a model that it cannot take."""
    try:
        probe(plain, copied(model))
    except GradwireError:
        raise
    except Exception as error:
        kind, dtype = type(model).__name__, str(floating(model)).removeprefix("torch.")
        raise GradwireError(f"model {kind} in {dtype} cannot be differentiated: {failure(error)}") from error


def _exact(model: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU that drops nothing out."""
    exact = copied(model).to("cpu", torch.float64)
    for module in exact.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
    return exact


@contextmanager
def twice_differentiable(network: nn.Module) -> Iterator[None]:
    """Keep PyTorch to operations whose slopes have slopes, in a forward pass and the backward pass behind it.

    The fused kernels of attention, of encoder layers and of cuDNN's recurrent layers have none.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(module, nn.RNNBase) for module in network.modules()):
                tf32 = torch.backends.cudnn.allow_tf32
                stack.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=tf32))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
