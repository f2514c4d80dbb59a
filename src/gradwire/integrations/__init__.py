"""gradwire inside other people's training loops."""

from gradwire.integrations.ddp import HookState, ddp_hook

__all__ = ["HookState", "ddp_hook"]
