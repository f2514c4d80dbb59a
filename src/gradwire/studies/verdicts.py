"""How far an attack came, told by the scorer: it compares what the attack minimised at its answer and at the truth.

A guess that is far from the truth means one of two things. Either the search ended where its own objective is worse
than at the truth, so that a longer one may still find it; or it ended where the objective is no worse, so that what was
sent, with the attack's prior, does not lead to the truth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradwire.attacks.inversion import Guess

EXACT, REACHED, TOO_SHORT, PRIOR = "exact", "reached", "too short", "the prior decides"
"""Solved and proved; a success; worse than the truth by the attack's own objective; no worse, and far away."""
ROUNDING = 1e-3
"""Relative: two objectives this close count as equal."""


def verdicts(guess: Guess, truth: Tensor, targets: Tensor, success: Sequence[bool]) -> list[str]:
    """A verdict for each victim; "" where the attack cannot say what it minimised.

    Args:
        truth: the true inputs (V, B, *shape), and their targets (V, B, …).
    """
    values = None if guess.value is None else guess.value(ordered(truth, targets, guess.targets))
    found = []
    for row, reached in enumerate(success):
        if guess.solved and guess.solved[row]:
            found.append(EXACT)
        elif reached:
            found.append(REACHED)
        elif values is None or bool(values[row].isnan()):
            found.append("")
        else:
            best, here = float(values[row]), float(guess.objective[row])
            found.append(PRIOR if here <= best + ROUNDING * abs(best) else TOO_SHORT)
    return found


def ordered(truth: Tensor, targets: Tensor, guessed: Tensor) -> Tensor:
    """The true inputs in the order in which the attack took their classes, where it took the right ones."""
    if targets.ndim != 2 or targets.shape != guessed.shape:
        return truth
    places, wanted = (each.argsort(stable=True, dim=1) for each in (targets, guessed))
    wanted = wanted.argsort(dim=1)
    order = places.gather(1, wanted)
    right = (targets.gather(1, order) == guessed.to(targets)).all(1)
    order = torch.where(right[:, None], order, torch.arange(order.shape[1]))
    return torch.stack([each[place] for each, place in zip(truth, order, strict=True)])
