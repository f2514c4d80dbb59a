"""Hyper-parameters spelt on a command line: `name:key=value,key=value` for a frozen dataclass, read and written."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_type_hints

from gradwire.errors import GradwireError, unknown

T = TypeVar("T")


def read(what: str, spec: str, kinds: Mapping[str, type[T]]) -> T:
    """The one of `kinds` that a spec names, with the values that it gives.

    Args:
        what: what the kinds are, for messages: "scheme", "study".
        kinds: name → frozen dataclass of ints, floats, bools and literals, each of them optional or not.

    Raises:
        GradwireError: an unknown name or parameter, a value that cannot be read, a needed parameter left out.
    """
    name, _, rest = spec.strip().partition(":")
    if name not in kinds:
        raise unknown(what, name, kinds)
    kind: Any = kinds[name]
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    values: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        key, equals, text = part.partition("=")
        if not equals or key not in known:
            takes = ", ".join(known) or "no parameters"
            raise GradwireError(f"{what} {spec!r}: cannot read {part!r}; {name} takes {takes}, as key=value")
        values[key] = _value(f"{what} {spec!r}: {key}", text, hints[key])
    for field in fields(kind):
        if field.default is MISSING and field.name not in values:
            raise GradwireError(f"{what} {spec!r} lacks {field.name}: {name}:{field.name}=VALUE")
    return kinds[name](**values)


def write(name: str, value: object) -> str:
    """The spelling that `read` reads back: the name and what differs from the defaults."""
    known = fields(value)  # type: ignore[arg-type]
    changed = ((f.name, getattr(value, f.name)) for f in known if getattr(value, f.name) != f.default)
    values = ",".join(f"{key}={text(each)}" for key, each in changed)
    return f"{name}:{values}" if values else name


def _value(what: str, text: str, hint: object) -> object:
    """The value of `text` as an int, float, bool or one of some words, whichever `hint` says."""
    union = [get_args(part) or (part,) for part in (get_args(hint) or (hint,)) if part is not type(None)]
    words = [kind for part in union for kind in part if isinstance(kind, str)]
    kinds = [kind for part in union for kind in part if not isinstance(kind, str)]
    if text in words or str in kinds:
        return text
    if not kinds:
        raise GradwireError(f"{what} is {text!r}; it must be one of {', '.join(words)}")
    if kinds[0] is bool:
        if text in ("true", "false"):
            return text == "true"
        raise GradwireError(f"{what} is {text!r}; it must be true or false")
    try:
        return int(text) if kinds[0] is int else float(text)
    except ValueError:
        wanted = " or ".join([*words, "a whole number" if kinds[0] is int else "a number"])
        raise GradwireError(f"{what} is {text!r}; it must be {wanted}") from None


def text(value: object) -> str:
    """A value as `read` takes it."""
    if isinstance(value, float):
        return repr(value).replace("e+", "e")  # a plus composes schemes
    return str(value).lower() if isinstance(value, bool) else str(value)
