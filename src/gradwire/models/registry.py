"""Networks by name: those that gradwire has, and the user's own."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradwire import spec_syntax
from gradwire.errors import GradwireError
from gradwire.models.normalize import Normalize
from gradwire.registry import MODELS
from gradwire.seeds import drawing


def names() -> tuple[str, ...]:
    """List the networks that `build` knows by name."""
    return MODELS.names()


def build(
    spec: str | Callable[..., nn.Module],
    shape: tuple[int, ...],
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
    facts: Mapping[str, object] = MappingProxyType({}),
) -> nn.Module:
    """Make a network, on the CPU, in training mode.

    Args:
        spec: one of `names()`, or the user's own: a function or class, or `package.module:factory`, with
            `:key=value,…` behind it where it takes more. It is given `shape` and `classes` as keywords if it takes
            them, and what it returns is used as it is: `mean` and `std` do not concern it. One whose `shape` is
            annotated as `tuple[int, int, int]`, as that of most built-in ones, makes networks of images alone.
        shape: of an input: channels, height and width of images.
        classes: how many scores the network gives.
        mean: of each channel on the scale [0, 1]; with `std`, the first layer is a `Normalize`. It changes neither
            the names of the parameters nor their initial values.
        std: of each channel on the same scale; given if and only if `mean` is.
        seed: decides the initial parameters, and the global generator is left as it was; without it, they come from
            the global generator.
        facts: what else a factory may take, by keyword, such as the size of a vocabulary.

    Returns:
        A network from inputs (N, *shape) to scores (N, classes).

    Raises:
        GradwireError: an unknown name, a factory that does not work or makes networks of images alone where inputs are
            none, an impossible shape, or `mean` and `std` that do not fit.
    """
    if not shape or min(shape) < 1:
        raise GradwireError(f"the shape of an input is {tuple(shape)}; each side must be ≥ 1")
    if classes < 0:
        raise GradwireError(f"a model for {classes} classes cannot be made; there must be 1 or more")
    # Importing a module may draw random numbers, the first time only, so the generator is seeded again to call it.
    with drawing(seed):
        factory, name, rest = MODELS.find(spec) if isinstance(spec, str) else (spec, MODELS.spec(spec), "")
    what = f"model {spec!r}" if isinstance(spec, str) else f"model {name!r}"
    if isinstance(factory, nn.Module):
        raise GradwireError(f"{what} is a network already; name a function or class that makes a new one")
    if len(shape) != 3 and _of_images(factory):
        hint = "take mlp, or a network of your own"
        raise GradwireError(
            f"{what} is a network of images (channels, height, width); inputs have shape {shape}: {hint}"
        )
    given: dict[str, object] = {"shape": shape, "classes": classes, **facts}
    own = {key: p for key, p in spec_syntax.parameters(factory).items() if key not in given} if rest else {}
    given |= spec_syntax.read(what, name, rest, own)
    with drawing(seed):
        net = _called(factory, what, given)
    return _normalized(net, shape[0], mean, std) if name in MODELS.builtin else net


def parameter_count(model: nn.Module) -> int:
    """Count the numbers in a model's parameters, the frozen ones too; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def _called(factory: Callable[..., Any], what: str, given: Mapping[str, object]) -> Any:
    """What a factory returns, given those keyword arguments that it takes.

    Raises:
        GradwireError: a factory that fails, or returns no module that can be trained.
    """
    try:
        net = factory(**_accepted(factory, given))
    except GradwireError as error:
        raise GradwireError(f"{what}: {error}") from None
    except Exception as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GradwireError(f"{what} failed when called: {reason}") from error
    if not isinstance(net, nn.Module):
        raise GradwireError(f"{what} returned a {type(net).__name__}; it must return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise GradwireError(f"{what} has no parameter that requires a gradient; at least one must")
    if any(map(is_lazy, net.parameters())):
        _give_shapes(net, what, given["shape"])
    return net


def _give_shapes(net: nn.Module, what: str, shape: Any) -> None:
    """Give lazy layers their shapes by two inputs of zeros, which leave running statistics as they are.

    Raises:
        GradwireError: the network does not take such inputs.
    """
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(2, *shape))
    except Exception as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GradwireError(f"{what} has lazy layers, and failed on inputs of shape {shape}: {reason}") from error
    for module, training in modes.items():
        module.training = training


def _of_images(factory: Callable[..., Any]) -> bool:
    """Whether a factory says that it takes the shape of an image."""
    try:
        taken = spec_syntax.parameters(factory).get("shape")
    except ValueError:  # some callables written in C do not tell their signature
        return False
    return taken is not None and taken.hint == tuple[int, int, int]


def _accepted(factory: Callable[..., Any], offered: Mapping[str, object]) -> Mapping[str, object]:
    """Pick those of the offered keyword arguments that the factory takes."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some callables written in C do not tell their signature
        return {}
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in offered.items() if every or name in parameters}


def _normalized(
    net: nn.Sequential, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> nn.Sequential:
    """Put a `Normalize` before the layers of a network, which keep their names."""
    if mean is None and std is None:
        return net
    if mean is None or std is None:
        raise GradwireError(f"mean is {mean} and std is {std}; give both or neither")
    if len(mean) != channels:
        raise GradwireError(f"mean has {len(mean)} channels and the images have {channels}; they must agree")
    return nn.Sequential(OrderedDict([("normalize", Normalize(mean, std)), *net.named_children()]))
