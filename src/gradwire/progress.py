"""How a long computation tells what it has done."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress of what nobody watches."""


def part(progress: Progress, stage: str, before: int, total: int) -> Progress:
    """The progress of one of several computations that make up a stage; other stages of it pass as they are.

    Args:
        before: how much of the stage was done when this computation began; `total`, how much there is in all.
    """

    def tell(what: str, done: int, of: int) -> None:
        if what == stage:
            progress(stage, before + done, total)
        else:
            progress(what, done, of)

    return tell
