"""How a long computation reports what it has done."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def part(progress: Progress, stage: str, before: int, total: int) -> Progress:
    """The progress of one of several computations that make up a stage; other stages pass unchanged.

    Args:
        before: how much of the stage was done when this computation began. total: how much there is in all.
    """

    def report(name: str, done: int, of: int) -> None:
        if name == stage:
            progress(stage, before + done, total)
        else:
            progress(name, done, of)

    return report
