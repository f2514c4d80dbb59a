"""The inverter's network, and its training: rectified layers, Adam along one cycle of step sizes, squared errors.

L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018, for
the cycle.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from gradwire.progress import Progress


@dataclass(frozen=True)
class Fitting:
    """Hyper-parameters; see `Learned`."""

    hidden: int
    depth: int
    epochs: int
    batch: int
    step: float


def trained(entered: Tensor, due: Tensor, how: Fitting, progress: Progress) -> nn.Module:
    """A network from (N, F) to (N, K), of least squared error; random numbers are the global ones, of the CPU."""
    count, size = len(entered), min(how.batch, len(entered))
    network = layers(entered.shape[1], due.shape[1], how).to(entered.device)
    with torch.no_grad():
        network[-1].bias.copy_(due.mean(0))  # type: ignore[operator]
    optimizer = torch.optim.Adam(network.parameters())
    steps = how.epochs * (count // size)
    cycle = OneCycleLR(optimizer, how.step, total_steps=steps + 1)
    for epoch in range(how.epochs):
        order = torch.randperm(count)[: count // size * size].to(entered.device)
        for rows in order.split(size):
            loss = (network(entered[rows]) - due[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
        progress("training the inverter", epoch + 1, how.epochs)
    return network.eval().requires_grad_(False)


def layers(inputs: int, outputs: int, how: Fitting) -> nn.Sequential:
    """`depth` linear layers, rectified between."""
    widths = [inputs, *[how.hidden] * (how.depth - 1)]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))
