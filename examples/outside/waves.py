"""A data set of one's own: noisy waves whose kind a network tells, and such a network.

gradwire audit --data waves --model listener --scheme none --scheme powersgd:rank=1
"""

import torch
from series import Series
from torch import nn

from gradwire.data import Dataset
from gradwire.tasks import CrossEntropy, Task

KINDS = ("sine", "square", "saw")


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
