"""Many networks of one architecture as one batch: each with parameters, buffers, data and a loss of its own."""

from gradwire.training.stack.choice import Stack, busy, stack
from gradwire.training.stack.networks import Networks, Slopes, descend
from gradwire.training.stack.paths import Losses

__all__ = ["Losses", "Networks", "Slopes", "Stack", "busy", "descend", "stack"]
