"""The engine: gradients of victims who share a network, and of many networks at once, each by the fastest path."""

from gradwire.engine.choice import Chosen, Unsupported, choose
from gradwire.engine.layered import Losses
from gradwire.engine.networks import Networks, Slopes, descend
from gradwire.engine.stacks import STACK_PATHS, Stack, busy, stack
from gradwire.engine.victims import PATHS, Engine, arithmetic, engine, wide_copy

__all__ = [
    "PATHS",
    "STACK_PATHS",
    "Chosen",
    "Engine",
    "Losses",
    "Networks",
    "Slopes",
    "Stack",
    "Unsupported",
    "arithmetic",
    "busy",
    "choose",
    "descend",
    "engine",
    "stack",
    "wide_copy",
]
