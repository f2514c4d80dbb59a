"""The inversion engine against the loop of the field: same images, same starts, same objective, same steps.

The baseline is what published attack code does: one image at a time, plain autograd with a second backward pass.
Both sides end with the objective that they reached, so that equal quality is seen and not assumed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire import data, models
from gradwire.attacks.inversion.engine.choice import PATHS
from gradwire.attacks.inversion.objective import cosine, total_variation
from gradwire.schemes import Stack, dense
from gradwire.seeds import generator
from gradwire.training import gradient
from gradwire.wire.view import Mode

STEP, TV = 0.1, 1e-4


@dataclass(frozen=True)
class Speed:
    """One way of attacking a number of victims.

    Attributes:
        way: "loop", or the name of the engine's path.
        milliseconds: an image and iteration, the median over iterations.
        objective: the mean over victims after the last iteration.
        ratio: the loop's milliseconds ÷ these.
    """

    way: str
    victims: int
    milliseconds: float
    objective: float
    ratio: float


def inversion_speeds(
    model_name: str,
    data_name: str,
    victims: Sequence[int],
    iterations: int = 7,
    mode: Mode = "eval",
    device: str = "cpu",
    looped: int = 8,
) -> Iterator[Speed]:
    """Attack plain gradients of single images with signed steps on the cosine objective, each way in turn.

    The loop's time an image does not depend on how many there are, so it attacks the first `looped` of them.
    """
    dataset = data.load(data_name, limit=max(victims))
    model = models.build(model_name, dataset.shape, dataset.num_classes, dataset.mean, dataset.std, seed=0).to(device)
    for count in victims:
        images, labels = (tensor.to(device) for tensor in dataset.batch(range(count)))
        updates = [gradient(model, images[i : i + 1], labels[i : i + 1], mode)[1] for i in range(count)]
        starts = torch.rand((count, 1, *dataset.shape), generator=generator("bench", count)).to(device)
        few = min(count, looped)
        loop = _Loop(model, mode, updates[:few], labels[:few])
        each, slowest = _time(loop, starts[:few], iterations)
        yield Speed("loop", count, slowest, each, 1.0)
        stack = Stack.of([dense(update) for update in updates], starts)
        for way, path in PATHS.items():
            if way == "plain":
                continue
            gradients = path(model, mode, cross_entropy)

            def objective(
                x: Tensor, gradients: Callable = gradients, stack: Stack = stack, labels: Tensor = labels
            ) -> Tensor:
                return cosine(*stack.moments(gradients(x, labels[:, None])), stack.energy) + TV * total_variation(x)

            reached, milliseconds = _time(objective, starts, iterations, few)
            yield Speed(way, count, milliseconds, reached, slowest / milliseconds)


class _Loop:
    """One victim after another; returns all their objectives as one tensor, as the engine does."""

    def __init__(self, model: nn.Module, mode: Mode, updates: list[dict[str, Tensor]], labels: Tensor):
        self.model, self.updates, self.labels = model.train(mode == "train"), updates, labels

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([self.one(x[i], i) for i in range(len(x))])

    def one(self, x: Tensor, victim: int) -> Tensor:
        parameters = list(self.model.parameters())
        value = cross_entropy(self.model(x), self.labels[victim : victim + 1])
        found = torch.autograd.grad(value, parameters, create_graph=True)
        target = self.updates[victim].values()
        inner = torch.stack([(g * t).sum() for g, t in zip(found, target, strict=True)]).sum()
        square = torch.stack([g.square().sum() for g in found]).sum()
        energy = torch.stack([t.square().sum() for t in target]).sum()
        return cosine(inner, square, energy) + TV * total_variation(x[None])[0]


def _time(
    objective: Callable[[Tensor], Tensor], starts: Tensor, iterations: int, shown: int | None = None
) -> tuple[float, float]:
    """Signed steps; the mean objective of the first `shown` victims at the end, and median milliseconds an image."""
    x, seconds = starts.clone(), []
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
    reached = objective(x.requires_grad_()).detach()[:shown]
    return float(reached.mean()), 1000 * sorted(seconds)[len(seconds) // 2] / len(starts)


def _slope(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    candidate = x.clone().requires_grad_()
    return torch.autograd.grad(value(candidate), candidate)[0]
