"""The inversion engine against the loop of the field: same images, same starts, same objective, same steps.

The baseline is what published attack code does: one image at a time, plain autograd with a second backward pass.
Every way ends with the objective that it reached, so that equal quality is seen and not assumed.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire import data
from gradwire.attacks.inversion.match import cosine, total_variation
from gradwire.attacks.inversion.search import PRECISIONS, Precision, computing
from gradwire.bench.breaching import breaching
from gradwire.engine import PATHS
from gradwire.errors import GradwireError, unknown
from gradwire.models.mode import set_mode
from gradwire.schemes import StackedMeasurement, dense
from gradwire.seeds import generator
from gradwire.training import gradient
from gradwire.wire.view import Mode

STEP, TV = 0.1, 1e-4
LOOP, FIELD = "loop", "breaching"


@dataclass(frozen=True)
class InversionSettings:
    """What decides the benchmark.

    Attributes:
        victims: how many are attacked at once, one count after another.
        iterations: of which the median is taken.
        precisions: of the engine's ways; the loop's is fp32.
        looped: victims that the loop attacks at most, as its time an image does not depend on how many there are.
        python: a Python that has breaching; empty for none.
    """

    model: str = "lenet"
    data: str = "cifar10"
    victims: tuple[int, ...] = (8, 64, 256)
    iterations: int = 7
    mode: Mode = "eval"
    device: str = "cpu"
    precisions: tuple[Precision, ...] = ("fp32",)
    looped: int = 8
    python: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.victims or min(self.victims) < 1:
            counts = f"iterations is {self.iterations} and victims {self.victims}"
            raise GradwireError(f"{counts}; each must be at least 1")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise unknown("precision", precision, PRECISIONS)
        if self.python and self.mode != "eval":
            raise GradwireError(
                f"mode is {self.mode}; breaching is compared in eval mode, where both attack one network"
            )


@dataclass(frozen=True)
class InversionSpeed:
    """One way of attacking a number of victims.

    Attributes:
        way: "loop", "breaching", or the name of the engine's path.
        milliseconds: an image and iteration, the median over iterations.
        objective: the mean after the last iteration over those victims whom the loop attacks too, taken in fp32.
        ratio: the loop's milliseconds ÷ these.
    """

    way: str
    precision: Precision
    victims: int
    milliseconds: float
    objective: float
    ratio: float


def inversion_speeds(settings: InversionSettings) -> Iterator[InversionSpeed]:
    """Attack plain gradients of single images with signed steps on the cosine objective, each way in turn.

    Raises:
        GradwireError: as `breaching`.
    """
    dataset = data.load(settings.data, limit=max(settings.victims))
    model = dataset.network(settings.model, 0).to(settings.device)
    mode = settings.mode
    for count in settings.victims:
        images, labels = (tensor.to(settings.device) for tensor in dataset.batch(range(count)))
        updates = [gradient(model, images[i : i + 1], labels[i : i + 1], mode)[1] for i in range(count)]
        starts = torch.rand((count, 1, *dataset.shape), generator=generator("bench", count)).to(settings.device)
        few = min(count, settings.looped)
        loop = _Loop(model, mode, updates[:few], labels[:few])
        each, slowest = _time(loop, starts[:few], settings.iterations)
        yield InversionSpeed(LOOP, "fp32", count, slowest, each, 1.0)
        if settings.python:
            how = {"iterations": settings.iterations, "step": STEP, "tv": TV, "device": settings.device}
            named = settings.model, model, dataset, images[:few], labels[:few], starts[:few]
            found = breaching(settings.python, *named, **how)  # type: ignore[arg-type]
            reached = float(loop(found.images).detach().mean())
            yield InversionSpeed(FIELD, "fp32", count, found.milliseconds, reached, slowest / found.milliseconds)
        stack = StackedMeasurement.of([dense(update) for update in updates], starts)
        for way, path in PATHS.items():
            if way == "plain":
                continue
            gradients = path(model, mode, dataset.task)

            def objective(
                x: Tensor, gradients: Callable = gradients, stack: StackedMeasurement = stack, labels: Tensor = labels
            ) -> Tensor:
                return cosine(*stack.moments(gradients(x, labels[:, None])), stack.energy) + TV * total_variation(x)

            for precision in settings.precisions:
                reached, milliseconds = _time(objective, starts, settings.iterations, few, precision)
                yield InversionSpeed(way, precision, count, milliseconds, reached, slowest / milliseconds)


class _Loop:
    """One victim after another; returns all their objectives as one tensor, as the engine does."""

    def __init__(self, model: nn.Module, mode: Mode, updates: list[dict[str, Tensor]], labels: Tensor):
        self.model, self.updates, self.targets = set_mode(model, mode), updates, labels

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([self.one(x[i], i) for i in range(len(x))])

    def one(self, x: Tensor, victim: int) -> Tensor:
        parameters = list(self.model.parameters())
        value = cross_entropy(self.model(x), self.targets[victim : victim + 1])
        found = torch.autograd.grad(value, parameters, create_graph=True)
        target = self.updates[victim].values()
        inner = torch.stack([(g * t).sum() for g, t in zip(found, target, strict=True)]).sum()
        square = torch.stack([g.square().sum() for g in found]).sum()
        energy = torch.stack([t.square().sum() for t in target]).sum()
        return cosine(inner, square, energy) + TV * total_variation(x[None])[0]


def _time(
    objective: Callable[[Tensor], Tensor],
    starts: Tensor,
    iterations: int,
    shown: int | None = None,
    precision: Precision = "fp32",
) -> tuple[float, float]:
    """Signed steps; the mean objective of the first `shown` victims at the end, and median milliseconds an image."""
    x, seconds = starts.clone(), []
    with computing(precision, str(starts.device)):
        for number in range(iterations + 1):
            started = time.perf_counter()
            if isinstance(objective, _Loop):
                slopes = torch.stack([_slope(partial(objective.one, victim=i), x[i]) for i in range(len(x))])
            else:
                slopes = _slope(lambda c: objective(c).sum(), x)
            x = (x - STEP * slopes.sign()).clamp(0, 1)
            if x.is_cuda:
                torch.cuda.synchronize()
            if number:
                seconds.append(time.perf_counter() - started)
    with computing("fp32", str(starts.device)):
        reached = objective(x.requires_grad_()).detach()[:shown]
    return float(reached.mean()), 1000 * sorted(seconds)[len(seconds) // 2] / len(starts)


def _slope(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    candidate = x.clone().requires_grad_()
    return torch.autograd.grad(value(candidate), candidate)[0]
