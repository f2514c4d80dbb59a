"""The engine: gradients of victims who share a network, and of many networks at once, each by the fastest path."""

from gradwire.engine.choice import choose
from gradwire.engine.networks import Networks, Slopes, descend
from gradwire.engine.stacks import STACK_PATHS, Stack, busy, stack
from gradwire.engine.victims import PATHS, Engine, arithmetic, engine, wide_copy

__all__ = [
    "PATHS",
    "STACK_PATHS",
    "Engine",
    "Networks",
    "Slopes",
    "Stack",
    "arithmetic",
    "busy",
    "choose",
    "descend",
    "engine",
    "stack",
    "wide_copy",
]
