"""The whole state of a training run between two rounds, and the file that holds it (safetensors, no pickle)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.runs import replacing
from gradwire.schemes import State
from gradwire.training.settings import TrainSettings


@dataclass
class TrainingState:
    """Everything that the next round depends on, and what the run has cost so far.

    Attributes:
        model: the parameters and buffers that every party holds.
        optimizer: with its moments.
        public: the scheme's public state; `private`: each client's own, party → state.
        round: the number of the next round.
        bytes_up: sent by all clients so far; `bytes_down`, received by all of them.
        seconds: spent in training so far.
        skipped: rounds that were given up because a gradient was not finite.
        dropped: how often a client has vanished from a round that the others finished; `short`, rounds that were given
            up because too few were left.
        energy_kwh: used by the device so far; None where the machine does not tell.
        notes: what a report has to say of how the clients trained; no part of a checkpoint.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    public: State
    private: dict[str, State]
    round: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    skipped: int = 0
    dropped: int = 0
    short: int = 0
    energy_kwh: float | None = 0.0
    notes: tuple[str, ...] = ()
    _COUNTERS: tuple[str, ...] = field(
        default=("round", "bytes_up", "bytes_down", "seconds", "skipped", "dropped", "short", "energy_kwh"), repr=False
    )

    @property
    def taken(self) -> int:
        """Rounds that ended in a step."""
        return self.round - self.skipped - self.short

    def save(self, path: Path, settings: TrainSettings, private: Mapping[str, State] | None = None) -> None:
        """Write the state; raises as `runs.replacing`.

        Args:
            private: all clients' states, where this process has only its own.
        """
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer/{name}/{key}"] = value
        tensors |= {f"public/{name}": tensor for name, tensor in self.public.items()}
        for party, state in (self.private if private is None else private).items():
            tensors |= {f"private/{party}/{name}": tensor for name, tensor in state.items()}
        header = {name: getattr(self, name) for name in self._COUNTERS} | {"settings": asdict(settings)}
        owned = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        with replacing(path) as file:
            save_file(owned, file, {"gradwire": json.dumps(header)})

    def restore(self, path: Path, settings: TrainSettings) -> None:
        """Take over the state that `save` wrote for the same settings.

        Rounds may differ, but not under a schedule that is spread over them; the device may.

        Raises:
            GradwireError: no such file, not a checkpoint, or one of another run (naming what differs).
        """
        header, tensors = _read(path)
        before, now = header["settings"], asdict(settings)
        for name in now:
            free = ("device",) if now["schedule"] != "constant" else ("device", "rounds")
            if name not in free and before.get(name) != now[name]:
                raise GradwireError(f"checkpoint {path} has {name}={before.get(name)}; this run has {name}={now[name]}")
        try:
            self.model.load_state_dict(_under(tensors, "model"))
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise GradwireError(f"checkpoint {path} is of another model: {first}") from None
        for name, parameter in self.model.named_parameters():
            kept = _under(tensors, f"optimizer/{name}")
            if kept:
                # Moments live where their parameter does; a step count stays on the CPU, where Adam wants it.
                self.optimizer.state[parameter] = {
                    key: value.to(parameter.device) if value.shape == parameter.shape else value
                    for key, value in kept.items()
                }
        self.public = _under(tensors, "public")
        self.private = {party: _under(tensors, f"private/{party}") for party in self.private}
        for name in self._COUNTERS:
            if name not in header:
                raise GradwireError(f"checkpoint {path} lacks {name}; another version of gradwire wrote it")
            setattr(self, name, header[name])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise GradwireError(f"there is no checkpoint {path} to resume from")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["gradwire"])
            # Copies, for in the file's memory tensors lie anyhow, and products of such are rounded differently.
            return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise GradwireError(f"{path} is not a checkpoint: {error}") from None


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = len(prefix) + 1
    return {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}
