"""The networks that gradwire knows by name, and the door to all networks."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from gradwire.errors import GradwireError, unknown
from gradwire.models import factory
from gradwire.models.normalize import Normalize
from gradwire.models.resnet import resnet18, resnet20, resnet50, resnet110
from gradwire.models.small import cnn, convnet, lenet, mlp

Architecture = Callable[[tuple[int, int, int], int], nn.Sequential]
"""(shape, classes) → a network whose layers have names."""

_ARCHITECTURES: dict[str, Architecture] = {
    "mlp": mlp,
    "lenet": lenet,
    "convnet": convnet,
    "cnn": cnn,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet110": resnet110,
    "resnet50": resnet50,
}


def names() -> tuple[str, ...]:
    """List the networks that `build` knows by name."""
    return tuple(_ARCHITECTURES)


def build(
    spec: str,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Make a network, on the CPU, in training mode.

    Args:
        spec: one of `names()`, or `package.module:factory` for the user's own (`gradwire.models.factory`), which is
            used as it is: `mean` and `std` do not concern it.
        shape: channels, height and width of the images.
        classes: how many class scores the network gives.
        mean: of each channel on the scale [0, 1]; with `std`, the first layer is a `Normalize`. It changes neither
            the names of the parameters nor their initial values.
        std: of each channel on the same scale; given if and only if `mean` is.
        seed: decides the initial parameters, and the global generator is left as it was; without it, they come from
            the global generator.

    Returns:
        A network from images in [0, 1], N×C×H×W, to class scores, N×classes.

    Raises:
        GradwireError: an unknown name, a factory that does not work, an impossible shape, or `mean` and `std` that
            do not fit.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise GradwireError(f"the shape of an image is {tuple(shape)}; it must be channels, height, width, each ≥ 1")
    if classes < 1:
        raise GradwireError(f"a model for {classes} classes cannot be made; there must be 1 or more")
    if ":" in spec:
        # Importing a module may draw random numbers, the first time only, so the generator is seeded again to call it.
        with _seeded(seed):
            own = factory.find(spec)
        with _seeded(seed):
            return factory.call(own, spec, shape, classes)
    if spec not in _ARCHITECTURES:
        raise unknown("model", spec, (*names(), "or package.module:factory"))
    with _seeded(seed):
        net = _ARCHITECTURES[spec](shape, classes)
    return _normalized(net, shape[0], mean, std)


def parameter_count(model: nn.Module) -> int:
    """Count the numbers in a model's parameters, the frozen ones too; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


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


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed the CPU's generator for a while; do nothing without a seed."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of every accelerator too, and nothing would set them back.
        torch.default_generator.manual_seed(seed)
        yield
