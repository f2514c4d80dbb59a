"""Devices by name, and what they are in words."""

import os
import platform

import torch

from gradwire.errors import GradwireError


def check_device(name: str) -> None:
    """Refuse a device that this machine or this build of PyTorch does not have.

    Raises:
        GradwireError: naming the device.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise GradwireError(f"device {name!r} cannot be used: {reason}") from None


def machine(device: str) -> str:
    """What a figure was measured on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, {torch.get_num_threads()} threads"
