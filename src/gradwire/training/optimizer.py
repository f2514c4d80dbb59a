"""The optimiser that every party runs on the aggregated update, and its learning rate round by round."""

from collections.abc import Iterable

import torch
from torch import nn

from gradwire.schemes import parse
from gradwire.training.settings import TrainSettings, learning_rate


def build(settings: TrainSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or Adam. Where clients keep the momentum themselves (DGC, local work), SGD adds none of its own."""
    if settings.local:
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.SGD
        return kind(parameters, lr=settings.server_rate)
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    local = parse(settings.scheme).local_momentum > 0
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=0.0 if local else settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov and not local,
    )


def step(optimizer: torch.optim.Optimizer, settings: TrainSettings, round: int) -> None:
    """Step with the rate of this round: it depends on the round alone, so that a resumed run needs no memory of it."""
    for group in optimizer.param_groups:
        group["lr"] = settings.server_rate if settings.local else learning_rate(settings, round)
    optimizer.step()
