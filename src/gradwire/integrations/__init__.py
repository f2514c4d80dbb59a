"""gradwire inside other people's training loops."""

from gradwire.integrations.ddp import HookState, ddp_hook
from gradwire.integrations.outer import OuterStep, outer_step

__all__ = ["HookState", "OuterStep", "ddp_hook", "outer_step"]
