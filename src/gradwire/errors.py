"""The one kind of error that gradwire raises on purpose.

Every message is one line that names the thing that is wrong, its value, and what would be right. The command
line prints it without a traceback and exits with status 2.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import inf
from typing import Any


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


def check_keys(what: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a key that nothing knows, naming the nearest one that is known."""
    names = tuple(known)
    for key in keys:
        if key not in names:
            near = "".join(f"; did you mean {name!r}?" for name in get_close_matches(key, names, 1, 0.4))
            raise GradwireError(f"{what}: there is no {key!r}{near or '.'} Known: {', '.join(names)}")


def at_least(least: int, **values: float) -> None:
    """Refuse values that are below the least one: 0 or 1."""
    for name, value in values.items():
        if value < least:
            raise GradwireError(f"{name} is {value}; it must {'be at least 1' if least else 'not be negative'}")


def not_negative(what: str, settings: Any, *names: str) -> None:
    """Refuse settings that are negative or not finite; `None` is left to whoever allows it."""
    _within(what, settings, names, lambda value: 0 <= value < inf, "not be negative")


def positive(what: str, settings: Any, *names: str) -> None:
    """Refuse settings that are not positive or not finite; `None` is left to whoever allows it."""
    _within(what, settings, names, lambda value: 0 < value < inf, "be positive")


def check_counts(what: str, settings: Any, *names: str, least: int = 1) -> None:
    """Refuse settings below the least count; `None` is left to whoever allows it."""
    _within(what, settings, names, lambda value: least <= value < inf, f"be at least {least}")


def check_fraction(what: str, settings: Any, *names: str) -> None:
    """Refuse settings outside [0, 1)."""
    _within(what, settings, names, lambda value: 0 <= value < 1, "be in [0, 1)")


def _within(what: str, settings: Any, names: Iterable[str], right: Callable[[float], bool], wanted: str) -> None:
    """Refuse settings that are not right; `what` they are of stands before them, or "" for nothing."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not right(value):
            found = f"{what}: {name}" if what else name
            raise GradwireError(f"{found} is {value}; it must {wanted if value < inf else 'be finite'}")


def check_words(settings: Any, **known: Iterable[str]) -> None:
    """Refuse settings that are none of the words known for them."""
    for name, words in known.items():
        if getattr(settings, name) not in words:
            raise unknown(name, getattr(settings, name), words)
