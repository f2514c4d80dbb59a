"""A loss's slopes at the logits, as a user's function has them: which label leaves which slope, and counts from these.

Under plain cross-entropy a batch's slopes are Σ p − n, n being the counts of its labels. Class weights, smoothed labels
or a temperature inside the loss leave others. The adversary knows the function, so that it simulates batches: at logits
of noise, an example of class k has the mean slopes D_k, and a batch shows Σ_k n_k·D_k. No paper's algorithm.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.tasks import CrossEntropy, Task

EQUAL = 1e-4
"""Relative difference, in float32, up to which two losses are held to be one."""
CORRECTIONS = 8
"""How often counts are corrected by what a simulated batch of theirs leaves unexplained."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, classes), labels (B,)) → a scalar."""


def is_cross_entropy(task: Task, network: nn.Module, inputs: Tensor, logits: Tensor) -> bool:
    """Whether the loss is plain cross-entropy of a network's logits: by its type, or by its value with every label.

    Args:
        logits: of the inputs, (B, classes). A loss that the network reports is compared with as many labels as there
            are inputs.
    """
    loss, classes = task.loss, logits.shape[1]
    if isinstance(loss, CrossEntropy):
        return True
    if not isinstance(getattr(loss, "like", None), CrossEntropy) or classes < 2:
        return False
    rows = torch.arange(len(inputs) if loss.reported else classes)
    labels, places = rows % classes, rows % len(inputs)
    try:
        with torch.no_grad():
            value = task.value(network, inputs, labels) if loss.reported else loss(logits[places], labels)
            due = cross_entropy(logits[places], labels)
    except Exception:  # a user's function may want another output, or other targets
        return False
    return bool((value - due).abs() <= EQUAL * due.abs())


def by_class(loss: Loss, logits: Tensor, batch: int) -> Tensor:
    """D, float64 (classes, classes): row k is the mean slope of an example of class k, times the batch.

    Args:
        logits: of noise, (P, classes).
        batch: examples of the simulated batches, whose labels are as varied as can be.
    """
    classes = logits.shape[1]
    found, seen = torch.zeros(classes, classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for first in range(0, classes, batch):
        for shift in range(max(1, len(logits) // batch)):
            labels = (torch.arange(batch) + first) % classes
            found.index_add_(0, labels, _slopes(loss, logits, labels, shift * batch))
            seen.index_add_(0, labels, torch.ones(batch, dtype=torch.float64))
    return batch * found / seen[:, None]


def solved(loss: Loss, logits: Tensor, slopes: Tensor, batch: int) -> Tensor:
    """The expected counts of labels, float64 (classes,), that leave such slopes (Σ over the batch of the loss's own).

    They solve Dᵀn = B·slopes, Σn = B by least squares, and are then corrected by what a batch with these labels lacks,
    for slopes need not add up example by example: class weights divide by the sum of the weights that a batch has.
    """
    spread = by_class(loss, logits, batch)
    system = torch.cat([spread.mT, torch.full_like(spread[:1], float(spread.abs().max()))])

    def step(missing: Tensor, examples: float) -> Tensor:
        due = torch.cat([batch * missing, system[-1:, 0] * examples])
        return torch.linalg.lstsq(system, due[:, None], driver="gelsd").solution[:, 0]

    current = step(slopes, batch)
    best, least = current, float("inf")
    for _ in range(CORRECTIONS):
        current = current.clamp_min(0)
        current = batch * current / current.sum().clamp_min(1e-12)
        missing = slopes - _simulated(loss, logits, current, batch)
        if (off := float(missing.norm())) < least:
            best, least = current, off
        current = current + step(missing, 0.0)
    return best


def _simulated(loss: Loss, logits: Tensor, expected: Tensor, batch: int) -> Tensor:
    """The slopes of batches whose labels occur as often as expected, rounded so that the mean over batches is right."""
    ends, found = expected.cumsum(0), []
    for shift in range(max(1, len(logits) // batch)):
        offset = (shift + 0.5) / max(1, len(logits) // batch)
        labels = torch.searchsorted(ends, torch.arange(batch) + offset).clamp_max(len(expected) - 1)
        found.append(_slopes(loss, logits, labels, shift * batch).sum(0))
    return torch.stack(found).mean(0)


def _slopes(loss: Loss, logits: Tensor, labels: Tensor, first: int) -> Tensor:
    """The slope of each example of one batch at logits of noise, float64 (B, classes)."""
    rows = logits[(torch.arange(len(labels)) + first) % len(logits)].detach().requires_grad_()
    return torch.autograd.grad(loss(rows, labels), rows)[0].double()
