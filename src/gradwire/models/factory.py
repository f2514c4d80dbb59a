"""A user's own network, named `package.module:factory`."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from gradwire.errors import GradwireError


def find(spec: str) -> Callable[..., Any]:
    """Import a user's factory.

    Args:
        spec: `package.module:factory`; the current directory is searched as well. A class is a factory too.

    Raises:
        GradwireError: a module that cannot be imported, or one without such a function or class.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise GradwireError(f"model {spec!r} is not of the form package.module:factory")
    try:
        with _current_directory_importable():
            module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise GradwireError(f"model {spec!r}: cannot import module {module_name!r}: {_reason(error)}") from error
    if not hasattr(module, attribute):
        raise GradwireError(f"model {spec!r}: module {module_name!r} has no {attribute!r}; name a function or class")
    factory = getattr(module, attribute)
    if isinstance(factory, nn.Module):
        raise GradwireError(f"model {spec!r} is a network already; name a function or class that makes a new one")
    if not callable(factory):
        raise GradwireError(f"model {spec!r} is a {type(factory).__name__}, not callable; name a function or class")
    return factory


def call(factory: Callable[..., Any], spec: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Call a user's factory, giving it `shape` and `classes` as keywords if it takes them.

    Args:
        factory: what `find` found.
        spec: its name, for errors.
        shape: channels, height and width of the images.
        classes: how many class scores are wanted.

    Returns:
        What the factory returned, as it is.

    Raises:
        GradwireError: a factory that fails, or returns no module that can be trained.
    """
    try:
        net = factory(**_accepted(factory, {"shape": shape, "classes": classes}))
    except Exception as error:  # the user's code may raise anything
        raise GradwireError(f"model {spec!r} failed when called: {_reason(error)}") from error
    if not isinstance(net, nn.Module):
        raise GradwireError(f"model {spec!r} returned a {type(net).__name__}; it must return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise GradwireError(f"model {spec!r} has no parameter that requires a gradient; at least one must")
    return net


def _accepted(factory: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """Pick those of the offered keyword arguments that the factory takes."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some callables written in C do not tell their signature
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {parameter.name for parameter in parameters if parameter.kind in by_keyword}
    return {name: value for name, value in offered.items() if name in taken}


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Import as `python -m` would; an installed command does not have the current directory on its path."""
    here = os.getcwd()
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
