"""The score of a guess: its inputs, put in the order of the true ones, and how near they come."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.tasks.domain import Domain
from gradwire.tasks.pixels import Pixels
from gradwire.tasks.task import Task


@dataclass(frozen=True)
class Score:
    """How near a guess came, victim by victim.

    Attributes:
        inputs: the guess as the domain orders it; shape of the guess.
        figures: name → float64 (V,): `ssim`, `mse` and `psnr` of images, `fields` of rows, `exact` of sentences, …;
            each is an attribute of the score, too.
        success: which victims were given away; boolean, shape (V,).
    """

    inputs: Tensor
    figures: Mapping[str, Tensor]
    success: Tensor

    def __getattr__(self, name: str) -> Tensor:
        try:
            figures: Mapping[str, Tensor] = self.__dict__["figures"]
            return figures[name]
        except KeyError:
            known = ", ".join(self.__dict__.get("figures", ()))
            raise AttributeError(f"a score of this domain has no {name!r}; it has {known}") from None


def score(guess: Tensor, truth: Tensor, task: Task | Domain | None = None) -> Score:
    """Compare a guess with the truth.

    Args:
        guess: V×B×…, or N×… with one input a victim.
        truth: as `guess`; for a guess of V×B inputs also (V·B)×…, victim by victim.
        task: what the inputs are, or their domain; images in [0, 1] where it is not given.

    Raises:
        GradwireError: shapes that do not fit each other, or values outside the domain.
    """
    given = task.domain if isinstance(task, Task) else task
    domain = Pixels(tuple(truth.shape[-3:])) if given is None else given
    several = guess.ndim == len(domain.shape) + 2
    if several and truth.shape == (guess.shape[0] * guess.shape[1], *guess.shape[2:]):
        truth = truth.reshape(guess.shape)
    if guess.shape != truth.shape:
        shapes = ("×".join(map(str, tensor.shape)) for tensor in (guess, truth))
        raise GradwireError("guess has shape {} and truth {}; they must be the same".format(*shapes))
    ours, true = (guess, truth) if several else (guess[:, None], truth[:, None])
    matched = domain.matched(ours, true)
    figures = domain.score(matched, true)
    return Score(matched if several else matched[:, 0], figures, torch.as_tensor(domain.success(figures)))
