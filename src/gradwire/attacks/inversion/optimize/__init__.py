"""Optimisers of many rows at once: each row is a problem of its own, all are evaluated as one batch."""

from gradwire.attacks.inversion.optimize.adam import DECAYS, Adam, Decay
from gradwire.attacks.inversion.optimize.lbfgs import LBFGS
from gradwire.attacks.inversion.optimize.optimizer import Box, Evaluate, Optimizer

__all__ = ["DECAYS", "LBFGS", "Adam", "Box", "Decay", "Evaluate", "Optimizer"]
