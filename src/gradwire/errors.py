"""The one kind of error that gradwire raises on purpose.

Every message is one line that names the thing that is wrong, its value, and what would be right. The command
line prints it without a traceback and exits with status 2.
"""

from collections.abc import Iterable


class GradwireError(ValueError):
    """Something that the user can put right: a name, a value, a file."""


class WireError(GradwireError):
    """Bytes that are not a message, or a message that does not fit the protocol it arrived in."""


class TooFewError(WireError):
    """So many clients have dropped out that a round cannot be finished."""


def in_line(error: Exception) -> str:
    """An error's message as one line."""
    return " ".join(str(error).split())


def unknown(kind: str, name: str, known: Iterable[str]) -> GradwireError:
    """The error for a name that is not in a list, naming the list."""
    return GradwireError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
