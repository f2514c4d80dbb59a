"""The engine: candidates of many victims at once → their gradients, differentiable in the candidates."""

from gradwire.attacks.inversion.engine.choice import Engine, Path, engine

__all__ = ["Engine", "Path", "engine"]
