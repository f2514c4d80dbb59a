"""Devices by name."""

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
