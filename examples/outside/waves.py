"""A domain of one's own, time series, and data of it: noisy waves whose kind a network tells.

gradwire audit --data waves --model waves:Listener --scheme none --scheme powersgd:rank=1
"""

from dataclasses import dataclass

import torch
from torch import nn

from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, Domain, Task

KINDS = ("sine", "square", "saw")


@dataclass(frozen=True)
class Series(Domain):
    """Series (length,) of amplitudes in [−1, 1]."""

    name = "series"
    what = "series"
    scores = ("correlation", "nrmse")
    enough = 0.9

    length: int

    @property
    def shape(self):
        return (self.length,)

    def check(self, inputs):
        if inputs.shape[1:] != self.shape or not bool((inputs.abs() <= 1).all()):
            raise GradwireError(f"series have shape {tuple(inputs.shape)}; they must be (B, {self.length}) in [-1, 1]")

    def bounds(self):
        return -1.0, 1.0

    def sample(self, *size, random):
        return (0.3 * torch.randn(*size, *self.shape, generator=random)).clamp(-1, 1)

    def score(self, guess, truth):
        """Pearson's correlation, and the root mean squared error over the range of the truth."""
        ours, true = (each.double() - each.double().mean(-1, keepdim=True) for each in (guess, truth))
        together = (ours * true).sum(-1) / (ours.norm(dim=-1) * true.norm(dim=-1)).clamp_min(1e-12)
        off = (guess - truth).double().square().mean(-1).sqrt() / (truth.amax(-1) - truth.amin(-1)).clamp_min(1e-12)
        return {"correlation": together.mean(1), "nrmse": off.mean(1)}


def waves(split, limit=None, length=64):
    """300 waves for training and 100 for testing, of three kinds, with phases, frequencies and noise of their own."""
    count = {"train": 300, "test": 100}[split]
    random = torch.Generator().manual_seed(count)
    kinds = torch.randint(len(KINDS), (count,), generator=random)
    start, pace, noise = (torch.rand(count, 1, generator=random) for _ in range(3))
    turns = start + (1 + 3 * pace) * torch.linspace(0, 1, length)
    sine = (2 * torch.pi * turns).sin()
    shapes = torch.stack([sine, sine.sign(), 2 * turns.frac() - 1])
    series = 0.8 * shapes[kinds, torch.arange(count)]
    series = (series + 0.1 * noise * torch.randn(count, length, generator=random)).clamp(-1, 1)
    return Dataset("waves", split, series[:limit], kinds[:limit], Task(Series(length), CrossEntropy(KINDS)))


class Listener(nn.Sequential):
    """Two convolutions in time, and a linear layer."""

    def __init__(self, shape, classes):
        layers = [nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 8, 5, padding=2), nn.GELU(), nn.Conv1d(8, 8, 5, padding=2)]
        super().__init__(*layers, nn.GELU(), nn.Flatten(), nn.Linear(8 * shape[0], classes))
