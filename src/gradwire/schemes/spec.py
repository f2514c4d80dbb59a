"""Schemes by name: `name:key=value,key=value`."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

from gradwire.errors import GradwireError, unknown
from gradwire.schemes.noise import Noise
from gradwire.schemes.none import Plain
from gradwire.schemes.powersgd import PowerSGD
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.sparsify import Sparsify
from gradwire.schemes.topk import TopK

SCHEMES: Mapping[str, type[Scheme]] = {scheme.name: scheme for scheme in (Plain, TopK, PowerSGD, Noise, Sparsify)}


def parse(spec: str) -> Scheme:
    """The scheme with this spec, such as `powersgd:rank=4` or `topk:ratio=0.01,per=model`.

    Raises:
        GradwireError: an unknown scheme or parameter, or a value that does not fit.
    """
    name, _, rest = spec.strip().partition(":")
    if name not in SCHEMES:
        raise unknown("scheme", name, SCHEMES)
    kind = SCHEMES[name]
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    values: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        key, equals, text = part.partition("=")
        if not equals or key not in known:
            takes = ", ".join(known) or "no parameters"
            raise GradwireError(f"scheme {spec!r}: cannot read {part!r}; {name} takes {takes}, as key=value")
        values[key] = _read(f"scheme {spec!r}: {key}", text, hints[key])
    for field in fields(kind):
        if field.default is MISSING and field.name not in values:
            raise GradwireError(f"scheme {spec!r} lacks {field.name}: {name}:{field.name}=VALUE")
    return kind(**values)


def _read(what: str, text: str, hint: object) -> object:
    """The value of `text` as an int, float, bool or one of some words, whichever `hint` says."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        if text in kinds:
            return text
        raise GradwireError(f"{what} is {text!r}; it must be one of {', '.join(map(str, kinds))}")
    if kinds[0] is bool:
        if text in ("true", "false"):
            return text == "true"
        raise GradwireError(f"{what} is {text!r}; it must be true or false")
    try:
        return int(text) if kinds[0] is int else float(text)
    except ValueError:
        wanted = "a whole number" if kinds[0] is int else "a number"
        raise GradwireError(f"{what} is {text!r}; it must be {wanted}") from None
