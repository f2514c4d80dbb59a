"""gradwire trains models together over a wire and tells you what that wire gives away.

>>> view = gradwire.capture(model, inputs, labels, scheme="powersgd:rank=4")   # what the server sees of one round
>>> guess = gradwire.invert(view, attack="iga", knowledge="adaptive")          # reconstructions
>>> score = gradwire.score(guess.inputs, inputs)                               # only now the truth

What it offers is imported when it is first used: to import torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwire.attacks.inversion import Guess, invert
    from gradwire.errors import GradwireError, WireError
    from gradwire.integrations import ddp_hook, outer_step
    from gradwire.integrations.fsdp import fsdp_hook
    from gradwire.studies.membership.judging import judge
    from gradwire.tasks import Score, score
    from gradwire.training.capture import capture
    from gradwire.wire import View

__all__ = [
    "GradwireError",
    "Guess",
    "Score",
    "View",
    "WireError",
    "capture",
    "ddp_hook",
    "fsdp_hook",
    "invert",
    "judge",
    "outer_step",
    "score",
]

_ROOMS = {
    **dict.fromkeys(("GradwireError", "WireError"), "errors"),
    **dict.fromkeys(("Guess", "invert"), "attacks.inversion"),
    **dict.fromkeys(("Score", "score"), "tasks"),
    "View": "wire",
    "capture": "training",
    "ddp_hook": "integrations",
    "fsdp_hook": "integrations.fsdp",
    "judge": "studies.membership",
    "outer_step": "integrations",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return globals().setdefault(name, getattr(import_module(f"gradwire.{_ROOMS[name]}"), name))
    try:
        return import_module(f"gradwire.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"gradwire.{name}":
            raise
        raise AttributeError(f"module 'gradwire' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
