"""A table to attack: three numbers and four categories."""

import torch
from torch import nn

import gradwire
from gradwire.tasks import Category, Columns, CrossEntropy, Number, Task, TaskLoss

NUMBERS = (
    Number("age", 40.0, 10.0, 17, 90, 39, whole=True),
    Number("weight", 70.0, 15.0, 30, 150, 69),
    Number("hours", 38.0, 12.0, 1, 99, 40, whole=True),
)
CATEGORIES = tuple(
    Category(name, tuple(f"{name}{i}" for i in range(count)), f"{name}0")
    for name, count in (("sex", 2), ("work", 5), ("town", 7), ("school", 4))
)
DOMAIN = Columns(NUMBERS, CATEGORIES)


def rows(count, seed=0):
    """Rows at random."""
    random = torch.Generator().manual_seed(seed)
    return DOMAIN.snapped(torch.randn(count, *DOMAIN.shape, generator=random))


def network(outputs=2, seed=0):
    torch.manual_seed(seed)
    width = DOMAIN.shape[0]
    return nn.Sequential(nn.Linear(width, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, outputs))


def captured(held, scheme="none", loss: TaskLoss | None = None, targets=None, **options):
    """The view of a round in which these rows' gradient was sent."""
    loss = CrossEntropy(("no", "yes")) if loss is None else loss
    if targets is None:
        targets = loss.sample(len(held), random=torch.Generator().manual_seed(len(held)))
        targets = targets.float() if targets.is_floating_point() else targets
    return gradwire.capture(network(loss.outputs), held, targets, scheme, task=Task(DOMAIN, loss), **options)


def fields(guess, held):
    """The share of fields that are right, of the first victim."""
    return float(DOMAIN.score(DOMAIN.matched(guess.inputs[:1], held[None]), held[None])["fields"])
