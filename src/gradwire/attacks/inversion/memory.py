"""How many rows (a victim and restart each) fit into memory at once: the default of `--chunk`."""

import os
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gradwire.models.mode import copied
from gradwire.tasks import Task

SHARE = 0.4
"""Of the memory that is free when an attack begins; the rest is for captures, the system and other processes."""
PARAMETER, ACTIVATION, UNFOLDED = 3, 6, 3
"""Copies that one row holds of each parameter (its gradient, what it is compared with, slopes of both), of each
activation (both passes forward and both back), and of each unfolded input of a convolution; measured, rounded up."""


def row_bytes(model: nn.Module, task: Task, batch: int) -> int:
    """Bytes that one row takes at the peak of an iteration, for a victim's batch of so many inputs."""
    outputs, unfolded = 0, 0

    def count(layer: nn.Module, arguments: tuple[Tensor, ...], output: object) -> None:
        nonlocal outputs, unfolded
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        outputs += sum(tensor.numel() for tensor in tensors)
        if isinstance(layer, nn.RNNBase):
            # Every step of every layer and direction keeps its gates.
            gates = sum(len(p) for name, p in layer.named_parameters() if name.startswith("weight_ih"))
            outputs += gates * tensors[0].shape[:-1].numel()
        if isinstance(layer, nn.Conv2d):
            unfolded += layer.in_channels * prod(layer.kernel_size) * tensors[0][:, 0].numel()

    probe = copied(model).float().cpu().eval()
    for layer in probe.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        task.output(probe, task.probe(batch)[0])
    parameters = sum(p.numel() for p in probe.parameters())
    return 4 * (PARAMETER * parameters + ACTIVATION * outputs + UNFOLDED * unfolded)


def rows_that_fit(model: nn.Module, task: Task, batch: int, device: str) -> int:
    """Rows that fit into the memory that is free now, at least one."""
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, int(SHARE * free) // row_bytes(model, task, batch))
