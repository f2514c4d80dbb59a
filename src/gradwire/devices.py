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


def bf16_note(device: str) -> tuple[str, ...]:
    """What a report has to say of products in bfloat16 on a device: nothing, but of a CPU that has none."""
    if torch.device(device).type != "cpu":
        return ()
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        supported = any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    else:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return () if supported else ("this CPU has no bfloat16 products: precision bf16 is several times slower than fp32",)


def machine(device: str) -> str:
    """What a figure was measured on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, {torch.get_num_threads()} threads"
