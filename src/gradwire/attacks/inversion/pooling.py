"""Sums over clients: the adversary who knows of them looks for everybody's images at once.

A secure sum shows the mean of n clients' updates, and a fellow client of any scheme the mean of the n − 1 others. The
naive adversary takes that for the victim's update. The adaptive one fits the images of all n clients: to the mean of n
gradients of B images each, which for a network that keeps its examples apart is the gradient of one batch of n·B.
Nobody can tell from a sum which image was whose.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gradwire.engine import Engine
from gradwire.schemes.gradients import Gradient, Mean
from gradwire.wire import View


def widened(view: View, clients: tuple[str, ...], others: tuple[str, ...]) -> View:
    """The view as one of a single victim that holds the images of all these clients.

    Args:
        clients: whose mean update is observed, the victim first.
        others: the round's clients but for the victim, in the order of `view.fellow_labels`.
    """
    if len(clients) == 1:
        return view
    labels = None
    if view.labels is not None and view.fellow_labels is not None:
        fellows = [view.fellow_labels[others.index(party)] for party in clients[1:]]
        labels = torch.cat([view.labels, *(each.to(view.labels) for each in fellows)])
    batch, *image = view.shape
    return replace(view, shape=(len(clients) * batch, *image), labels=labels)


def grouped(engine: Engine, clients: int) -> Engine:
    """The engine whose rows hold the images of so many clients, and whose gradients are the means over them."""
    if clients == 1:
        return engine
    return replace(engine, run=_over(engine.run, clients))


def _over(
    gradients: Callable[[Tensor, Tensor], Mapping[str, Gradient]], clients: int
) -> Callable[[Tensor, Tensor], dict[str, Gradient]]:
    def means(images: Tensor, labels: Tensor) -> dict[str, Gradient]:
        each = gradients(*(t.unflatten(1, (clients, -1)).flatten(0, 1) for t in (images, labels)))
        return {name: Mean(gradient, clients) for name, gradient in each.items()}

    return means
