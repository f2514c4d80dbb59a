"""Adam and L-BFGS for many rows at once, within bounds: each row is a problem of its own, evaluated in one batch.

An iteration is made of tensors' operations alone: nothing of it is read on the host, so that a card does not wait.
"""

from gradwire.attacks.inversion.optimize.adam import DECAYS, Adam, Decay
from gradwire.attacks.inversion.optimize.lbfgs import LBFGS
from gradwire.attacks.inversion.optimize.optimizer import Box, Evaluate, Optimizer

__all__ = ["DECAYS", "LBFGS", "Adam", "Box", "Decay", "Evaluate", "Optimizer"]
