"""What an inversion attack works on: views, each with a measurement to fit, and the labels to fit it under."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gradwire.attacks.inversion.labels import infer
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement, dense, sight
from gradwire.wire import View

Knowledge = Literal["naive", "adaptive"]
KNOWLEDGE: tuple[Knowledge, ...] = ("naive", "adaptive")


@dataclass(frozen=True)
class Problem:
    """One victim's view, and what a candidate's gradient is held against.

    Attributes:
        view: of one round of one victim.
        measurement: the terms to match.
        labels: int64, shape (B,): known, or inferred from the view.
        salt: problems with equal salts start from equal noise, so that schemes are compared on equal terms.
        deviation: the standard deviation of the noise in what was sent, as far as the adversary knows of any.
    """

    view: View
    measurement: Measurement
    labels: Tensor
    salt: int = 0
    deviation: float = 0.0


def pose(view: View, knowledge: Knowledge, salt: int = 0) -> Problem:
    """The problem that a view poses to an adversary who knows the scheme ("adaptive") or not ("naive").

    The naive adversary takes the decoded update for a plain gradient, as published evaluations do; the adaptive one
    matches what was sent, through the scheme's measurement.

    Raises:
        GradwireError: unknown knowledge, a view that tells nothing, labels that cannot be inferred.
    """
    if knowledge not in KNOWLEDGE:
        raise GradwireError(f"unknown knowledge {knowledge!r}; known: {', '.join(KNOWLEDGE)}")
    scheme, seen = sight(view)
    decoded = scheme.decode(seen)
    labels = infer(view, decoded) if view.labels is None else view.labels
    if knowledge == "naive":
        return Problem(view, dense(decoded), labels, salt)
    return Problem(view, scheme.measure(seen), labels, salt, scheme.deviation(seen.round))


@dataclass(frozen=True)
class Guess:
    """What an attack came up with.

    Attributes:
        images: shape (V, B, C, H, W), in [0, 1].
        labels: int64, shape (V, B): those that the attack worked with.
        objective: what the attack minimised, at the images; shape (V,). Infinite where every restart was lost.
        iterations: how many there were.
        lost: restarts that ended in a value that was not finite.
        notes: what a report has to say of how it was found.
    """

    images: Tensor
    labels: Tensor
    objective: Tensor
    iterations: int
    lost: int = 0
    notes: tuple[str, ...] = ()
