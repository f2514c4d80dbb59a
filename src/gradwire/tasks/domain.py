"""Domains: what one input can be, how a search stays among such inputs, and how a guess is scored and shown."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import xxhash
from torch import Tensor, nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a network's forward pass."""


SHOWN, NEAR = 64, 0.05
"""Numbers of an input that are shown, and the share of their range by which a number may be off and count as right."""


class Cell(NamedTuple):
    """A part of an input as people read it: a field's name and its value, or a token (without a name)."""

    name: str
    text: str


class Domain(ABC):
    """What one input of a network can be. Subclasses are frozen dataclasses of what everybody knows of the inputs.

    A subclass says at least its `shape`, what it refuses (`check`), and by what a guess is scored (`score`).

    Attributes:
        shape: of one input.
        name: the word for the domain in settings and tables.
        what: what several inputs are called in sentences.
        scores: names of the figures that `score` gives, the leading one first.
        enough: the leading figure from which on a victim counts as given away, or in words what `success` asks for.
        higher: whether a greater leading figure says that more was given away.
        continuous: whether inputs are numbers, in which a gradient has slopes.
        dtype: of inputs.
        network: the spec of the network that is trained on them where nobody names one.
    """

    name: ClassVar[str]
    what: ClassVar[str] = "examples"
    scores: ClassVar[tuple[str, ...]]
    enough: ClassVar[float | str] = 1.0
    higher: ClassVar[bool] = True
    continuous: ClassVar[bool] = True
    dtype: ClassVar[torch.dtype] = torch.float32
    network: ClassVar[str] = "mlp"

    shape: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """A digest of everything that is known of the inputs: of a schema, or of a vocabulary."""
        known = asdict(self) if is_dataclass(self) and not isinstance(self, type) else vars(self)
        return xxhash.xxh3_64_hexdigest(repr((self.name, known)).encode())

    @property
    def facts(self) -> Mapping[str, object]:
        """What a factory of networks may ask for beside the shape and the number of outputs."""
        return {}

    @property
    def assumed(self) -> str:
        """A sentence for the report: what an adversary is assumed to know of the inputs."""
        return f"It knows the shape of the {self.what}."

    @abstractmethod
    def check(self, inputs: Tensor) -> None:
        """Refuse inputs (B, *shape) that are outside the domain, by a GradwireError that names the first."""

    def check_stored(self, stored: Tensor) -> None:
        """Refuse inputs as a data set stores them; by default as `check`."""
        self.check(self.read(stored))

    def read(self, stored: Tensor) -> Tensor:
        """Inputs as networks take them, from those that a data set stores."""
        return stored

    def reached(self, inputs: Tensor) -> Tensor:
        """Inputs (B, …) without what only takes time, such as positions that are padding in all of them."""
        return inputs

    def arguments(self, model: nn.Module, inputs: Tensor) -> Arguments:
        """With what a network is called for inputs (B, *shape)."""
        return (inputs,), {}

    # -- how a search stays within the domain ----------------------------------------------------------------------

    def bounds(self) -> tuple[float | Tensor, float | Tensor]:
        """The least and the greatest value of each coordinate of a search: numbers, or tensors of shape `shape`."""
        return -torch.inf, torch.inf

    def sample(self, *size: int, random: torch.Generator) -> Tensor:
        """Inputs at random, (*size, *shape): with them paths of an engine are compared."""
        return torch.randn(*size, *self.shape, generator=random)

    def start(self, *size: int, random: torch.Generator) -> Tensor:
        """Points (*size, *shape) at which a search begins; see `relaxed`."""
        return self.sample(*size, random=random)

    def relaxed(self, points: Tensor) -> Tensor:
        """Inputs that a search at `points` asks a network about, both of shape (…, *shape); differentiable."""
        return points

    def snapped(self, inputs: Tensor) -> Tensor:
        """The nearest inputs that can be."""
        low, high = (torch.as_tensor(bound, dtype=inputs.dtype, device=inputs.device) for bound in self.bounds())
        return torch.minimum(torch.maximum(inputs, low), high)

    # -- how a guess is scored and shown ---------------------------------------------------------------------------

    @abstractmethod
    def score(self, guess: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        """How near guesses come to the truth: both (V, B, *shape), as `matched` orders them; figure → float64 (V,)."""

    def success(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Which victims were given away, bool (V,): those whose leading figure is `enough`."""
        leading, enough = scores[self.scores[0]], float(self.enough)
        return leading >= enough if self.higher else leading <= enough

    def distance(self, guess: Tensor, truth: Tensor) -> Tensor:
        """How far every guess is from every true input: (B, *shape) twice → (B, B), row: the truth's."""
        return torch.cdist(truth.flatten(1).double(), guess.flatten(1).double()).square()

    def matched(self, guess: Tensor, truth: Tensor) -> Tensor:
        """Reorder each victim's guesses (V, B, *shape) to stand beside the true inputs, by the nearest pairing.

        A gradient is a mean over its batch and tells nothing of the order, so that a guess in another order is no
        worse. This uses the truth: call it after the attack has chosen its answer.
        """
        if guess.shape[1] == 1:
            return guess
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

        found = torch.empty_like(guess)
        for victim, (ours, true) in enumerate(zip(guess, truth, strict=True)):
            _, order = linear_sum_assignment(self.distance(ours, true).cpu().numpy())
            found[victim] = ours[torch.from_numpy(order).to(guess.device)]
        return found

    def uninformed(self) -> Tensor | None:
        """What someone answers who knows the domain and has seen nothing, (*shape,); None where nothing is usual."""
        return None

    def cells(self, inputs: Tensor) -> Sequence[Sequence[Cell]] | None:
        """Inputs (B, *shape) as people read them: by default, their first numbers; None where they are pictures."""
        return [[Cell("", f" {value:.3g}") for value in each[:SHOWN]] for each in inputs.flatten(1).tolist()]

    def right(self, guess: Tensor, truth: Tensor) -> Sequence[Sequence[bool]]:
        """Which cells of guesses (B, *shape) are right: by default numbers that are off by no more than `NEAR`."""
        off, spread = (guess - truth).abs().flatten(1), (truth.max() - truth.min()).clamp_min(1e-12)
        return (off[:, :SHOWN] <= NEAR * spread).tolist()
