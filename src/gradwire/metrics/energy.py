"""Energy that a whole device has used, from its own counter (RAPL by Linux powercap, or NVML), never estimated."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

JOULES_PER_KWH = 3.6e6
POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Counts from its construction on.

    Args:
        device: "cpu" for all processor packages of the machine, "cuda…" for that card.
    """

    def __init__(self, device: str, powercap: Path = POWERCAP):
        self._kwh = _nvml(device) if device.startswith("cuda") else _rapl(powercap)

    def kwh(self) -> float | None:
        """Kilowatt-hours used since then; None where the machine has no counter that can be read."""
        return None if self._kwh is None else self._kwh()


def _rapl(powercap: Path) -> Callable[[], float] | None:
    """Reads the packages' counters: microjoules, which wrap around at a known value; mostly only root may read them."""
    packages = [path for path in powercap.glob("intel-rapl:*") if path.name.count(":") == 1]
    try:
        last = {path: int((path / "energy_uj").read_text()) for path in packages}
        wraps = {path: int((path / "max_energy_range_uj").read_text()) + 1 for path in packages}
    except (OSError, ValueError):
        return None
    used = 0

    def kwh() -> float:
        nonlocal used
        for path in packages:
            now = int((path / "energy_uj").read_text())
            used += (now - last[path]) % wraps[path]
            last[path] = now
        return used / 1e6 / JOULES_PER_KWH

    return kwh if packages else None


def _nvml(device: str) -> Callable[[], float] | None:
    """Reads the card's counter: millijoules since its driver was loaded."""
    try:
        pynvml = import_module("pynvml")  # of the package nvidia-ml-py, which is not required
        pynvml.nvmlInit()
        index = torch.device(device).index
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device() if index is None else index).uuid
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        begin = pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except Exception:  # no library, no driver, no such counter: each raises an exception of its own
        return None
    return lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(card) - begin) / 1e3 / JOULES_PER_KWH
