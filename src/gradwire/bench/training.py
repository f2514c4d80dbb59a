"""What compression costs a client in a step of training: against torch.topk, Top-K against DGC, and an autoencoder."""

from dataclasses import dataclass
from functools import partial
from time import process_time

import torch
from torch import Tensor

from gradwire import models
from gradwire.bench.timing import median_seconds
from gradwire.schemes import Layout, LocalStep, LocalStepHook, Round, Scheme, Update, parse
from gradwire.schemes.selection import largest
from gradwire.seeds import generator

RATIO = 0.01
STEPS = 75
"""A client's of 600 images, in batches of 8."""


@dataclass(frozen=True)
class Comparison:
    """Median seconds of what was measured, and of the reference in the same run."""

    what: str
    seconds: float
    reference: str
    reference_seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long as the reference it took."""
        return self.seconds / self.reference_seconds


def resnet18_gradient(seed: int = 0) -> dict[str, Tensor]:
    """Random numbers in the shapes of a ResNet-18's gradient on CIFAR-10: 11.2 M entries."""
    layout = Layout.of_model(models.build("resnet18", (3, 32, 32), 10, seed=0))
    source = generator("bench gradient", seed)
    return {name: torch.randn(shape, generator=source) for name, shape in layout.shapes.items()}


def selection(repeats: int = 7) -> list[Comparison]:
    """Top-K of 11.2 M entries against torch.topk, and a DGC client's step against a Top-K client's."""
    update = resnet18_gradient()
    layout = Layout.of(update)
    vector, count = layout.flatten(update), int(RATIO * layout.size)
    ours = median_seconds(lambda: largest(vector, count), repeats)
    theirs = median_seconds(lambda: torch.topk(vector.abs(), count, sorted=False).indices.sort(), repeats)
    topk, dgc = f"topk:ratio={RATIO}", f"dgc:ratio={RATIO}"
    topk_seconds, dgc_seconds = (_upload(spec, update, repeats) for spec in (topk, dgc))
    return [
        Comparison(f"largest {RATIO:.0%} of {layout.size:,} entries", ours, "torch.topk", theirs),
        Comparison(f"a client's upload under {dgc}", dgc_seconds, topk, topk_seconds),
    ]


def _upload(spec: str, update: Update, repeats: int) -> float:
    """Seconds from an update to the tensors of a client's first message, in its second round."""
    scheme, layout = parse(spec), Layout.of(update)
    state = {name: torch.randn_like(tensor) for name, tensor in scheme.private_state(layout).items()}
    round = Round(0, ("client:0",), 0, layout)
    return median_seconds(lambda: next(scheme.client(update, state, {}, round)), repeats)


def codec() -> list[Comparison]:
    """A client's round of a LeNet under its autoencoder, without the LeNet's own work, in processor time."""
    model = models.build("lenet", (1, 28, 28), 10, seed=0)
    layout, start = Layout.of_model(model), {name: p.detach() for name, p in model.named_parameters()}
    round = Round(0, ("client:0",), 0, layout, start=start)
    options = ("codec=untrained", "codec=untrained,response=affine", "codec=projection")
    rounds = [partial(_round, parse(f"autoencoder:warmup_rounds=0,{each}"), start, round) for each in options]
    exact, affine, bare = (median_seconds(run, 1, process_time) for run in rounds)
    training = parse("autoencoder:warmup_rounds=1,warmup_iterations=3,coded=updates")
    trained = median_seconds(partial(_round, training, start, round, 3), 1, process_time) / 3
    what, whole = f"{STEPS} steps through LeNet's autoencoder", f"{STEPS} exact ones"
    return [
        Comparison(f"{what}, response=affine", affine, whole, exact),
        Comparison(f"{what}, codec=projection", bare, whole, exact),
        Comparison("one warming-up iteration of its training", trained, "an exact step", exact / STEPS),
    ]


def _round(scheme: Scheme, start: Update, round: Round, steps: int = STEPS) -> None:
    """What the scheme does in a client's round, whose every gradient is a hundredth of the parameters."""
    hook, state, now = scheme.step_hook or LocalStepHook(), scheme.private_state(round.layout), start
    for index in range(steps):
        step = LocalStep(round, index, steps, 8, 600, 0)
        slope, state = hook.before_step({name: 0.01 * p for name, p in now.items()}, state, step)
        now = {name: p - 0.01 * slope[name] for name, p in now.items()}
        now, state = hook.after_step(now, state, step)
