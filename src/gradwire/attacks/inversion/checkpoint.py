"""A long attack's state between two iterations, in a file (safetensors, no pickle)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem
from gradwire.errors import GradwireError
from gradwire.runs import replacing


@dataclass(frozen=True)
class Checkpoint:
    """The file that holds the state of the attack `identity`; one of another attack is refused."""

    path: Path
    identity: str

    def load(self) -> tuple[int, dict[str, Tensor]] | None:
        """The number of the next iteration and the optimiser's state; None if there is no file yet."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                header = json.loads((file.metadata() or {})["gradwire-attack"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise GradwireError(f"{self.path} is not an attack's checkpoint: {error}") from None
        if header["identity"] != self.identity:
            raise GradwireError(f"checkpoint {self.path} is of {header['identity']}; this attack is {self.identity}")
        return int(header["iteration"]), state

    def save(self, iteration: int, state: Mapping[str, Tensor]) -> None:
        """Write the state before an iteration. An interrupted write leaves the file that was there."""
        owned = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        header = {"identity": self.identity, "iteration": iteration}
        with replacing(self.path) as temporary:
            save_file(owned, temporary, {"gradwire-attack": json.dumps(header)})


def fingerprint(problems: Sequence[Problem]) -> str:
    """A hash of the observations, whose they are, and the attacked model."""
    digest = xxhash.xxh3_64()
    tensors = list(problems[0].view.model.state_dict().values())
    for problem in (each for first in problems for each in (first, *first.later)):
        digest.update(repr((problem.salt, problem.view.shape, problem.view.mode)).encode())
        terms = [term for several in problem.measurement.values() for term in several]
        tensors += [] if problem.begin is None else [problem.begin]
        tensors += [problem.targets, *(tensor for term in terms for tensor in vars(term).values())]
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
