"""How many rows (a victim and restart each) fit into memory at once, so that nobody has to guess `--chunk`."""

import copy
import os

import torch
from torch import Tensor, nn

SHARE = 0.4
"""Of the memory that is free when an attack begins: the rest is left to captures, the system and other processes."""
PARAMETER, ACTIVATION, UNFOLDED = 3, 6, 3
"""Copies that one row keeps of each parameter (its gradient, what it is held against, slopes of both), of each
activation (both passes forward and both back), and of each unfolded input of a convolution; measured, rounded up."""


def row_bytes(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that one row takes at the peak of an iteration, for a victim's batch of shape (B, C, H, W)."""
    outputs, unfolded = 0, 0

    def count(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal outputs, unfolded
        outputs += output.numel()
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            positions = output.shape[-2] * output.shape[-1]
            unfolded += len(output) * layer.in_channels * kernel * positions

    probe = copy.deepcopy(model).cpu().eval()
    for layer in probe.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        probe(torch.zeros(shape))
    parameters = sum(p.numel() for p in probe.parameters())
    return 4 * (PARAMETER * parameters + ACTIVATION * outputs + UNFOLDED * unfolded)


def rows_that_fit(model: nn.Module, shape: tuple[int, ...], device: str) -> int:
    """Rows that fit into the memory that is free now, at least one."""
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, int(SHARE * free) // row_bytes(model, shape))
