"""Hyper-parameters as text, `key=value,key=value`, for a dataclass or any other callable with annotated parameters."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache, partial
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gradwire.errors import GradwireError

Plain = str | int | float | bool | None


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: its type annotation, and its default (`MISSING` where it has to be given)."""

    hint: object
    default: object


@lru_cache(256)
def parameters(target: Callable[..., object]) -> Mapping[str, Parameter]:
    """The parameters of a class or function by name, in the order in which it takes them."""
    said: Any = target.func if isinstance(target, partial) else target
    try:
        hints = get_type_hints(said if inspect.isfunction(said) or is_dataclass(said) else said.__init__)
    except Exception:  # annotations from outside may name what is not there when the program runs
        hints = {}
    if is_dataclass(target):
        made = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(target)}
        return {f.name: Parameter(hints.get(f.name, object), made[f.name]) for f in fields(target) if f.init}
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: Parameter(hints.get(name, object), MISSING if p.default is p.empty else p.default)
        for name, p in inspect.signature(target).parameters.items()
        if p.kind in by_keyword
    }


def read(what: str, name: str, spec: str, known: Mapping[str, Parameter]) -> dict[str, object]:
    """The values that a spec gives behind its name.

    Args:
        what: the whole spec and its kind, for messages: "scheme 'topk:ratio=2'".
        name: of the thing, `spec`: what is behind it and its colon.
        known: the parameters that it takes.

    Raises:
        GradwireError: an unknown parameter, a value that cannot be read, a needed parameter left out.
    """
    values: dict[str, object] = {}
    for part in filter(None, spec.split(",")):
        key, equals, written = part.partition("=")
        if not equals or key not in known:
            takes = ", ".join(known) or "no parameters"
            raise GradwireError(f"{what}: cannot read {part!r}; {name} takes {takes}, as key=value")
        values[key] = _value(f"{what}: {key}", written, known[key].hint)
    return values


def write(what: str, name: str, value: object) -> str:
    """The spec that `read` reads back: the name and what differs from the defaults.

    Raises:
        GradwireError: a value that no spec can hold, such as a tensor or a text with a comma.
    """
    kind: Any = type(value)
    changed = []
    for key, parameter in parameters(kind).items():
        if not hasattr(value, key):
            raise GradwireError(
                f"{what}: {key} is no attribute of it, so its spec cannot be told; keep it as self.{key}"
            )
        held = getattr(value, key)
        if held is parameter.default or held == parameter.default:
            continue
        written = text(held)
        if not _reads_back(written, held, parameter.hint):
            raise GradwireError(f"{what}: {key} is {held!r}, which cannot be written in a spec")
        changed.append(f"{key}={written}")
    return f"{name}:{','.join(changed)}" if changed else name


def fits(value: object, hint: object) -> bool:
    """Whether a value from a file is of the type that an annotation says: a list will do for a tuple."""
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in get_args(hint))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if kind is tuple or kind is Sequence:
        inner = next(iter(get_args(hint)), object)
        return isinstance(value, list | tuple) and all(fits(each, inner) for each in value)
    if kind is Mapping:
        inner = (*get_args(hint), object, object)[1]
        return isinstance(value, Mapping) and all(fits(each, inner) for each in value.values())
    if kind in (int, str, bool, NoneType):
        return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return True


def check_fits(what: str, values: Mapping[str, object], known: Mapping[str, Parameter]) -> None:
    """Refuse the first of these values that is of another type than its parameter."""
    for name, value in values.items():
        if name in known and not fits(value, known[name].hint):
            hint = known[name].hint
            wanted = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise GradwireError(f"{what}: {name} is {value!r}; it must be of type {wanted}")


def _reads_back(written: str, value: object, hint: object) -> bool:
    try:
        return not set(written) & set(",+") and _value("", written, hint) == value
    except GradwireError:
        return False


def text(value: object) -> str:
    """A value as `read` takes it."""
    if isinstance(value, float):
        return repr(float(value)).replace("e+", "e")  # a plus composes schemes
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _value(what: str, written: str, hint: object) -> Plain:
    """The written value as a number, truth value, text, none or one of some words, whichever `hint` says.

    Without any hint it is the first of these that it can be.
    """
    kinds, words = _kinds(hint)
    if written in words:
        return written
    if NoneType in kinds and written == "none":
        return None
    if bool in kinds and written in ("true", "false"):
        return written == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(written)
            except ValueError:
                continue
    if str in kinds:
        return written
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    wanted = [names[kind] for kind in names if kind in kinds and not (kind is int and float in kinds)]
    if not words and not wanted:
        raise GradwireError(f"{what} is {written!r}; it cannot be given in a spec, only in Python")
    choice = f"one of {', '.join(words)}" if words and not wanted else " or ".join([*words, *wanted])
    raise GradwireError(f"{what} is {written!r}; it must be {choice}")


def _kinds(hint: object) -> tuple[set[object], list[str]]:
    """The plain types that a hint allows, and the words."""
    if hint is object or hint is Any:
        return {bool, int, float, str}, []
    if get_origin(hint) is Literal:
        return set(), [word for word in get_args(hint) if isinstance(word, str)]
    if get_origin(hint) in (Union, UnionType):
        parts = [_kinds(part) for part in get_args(hint)]
        return set().union(*(kinds for kinds, _ in parts)), [word for _, words in parts for word in words]
    return {hint} & {str, int, float, bool, NoneType}, []
