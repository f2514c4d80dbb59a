"""Schemes by name: `name:key=value,key=value`."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import reduce
from typing import get_args, get_type_hints

from gradwire.errors import GradwireError, unknown
from gradwire.schemes.composed import compose
from gradwire.schemes.dgc import DGC
from gradwire.schemes.noise import Noise
from gradwire.schemes.none import Plain
from gradwire.schemes.powersgd import PowerSGD
from gradwire.schemes.qsgd import QSGD
from gradwire.schemes.randomk import RandomK
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.sga import SGA
from gradwire.schemes.signsgd import SignSGD
from gradwire.schemes.sparsify import Sparsify
from gradwire.schemes.ssga import SSGA
from gradwire.schemes.ssga_dgc import SSGADGC
from gradwire.schemes.topk import TopK

_ALL = (Plain, TopK, RandomK, PowerSGD, DGC, QSGD, SignSGD, Noise, Sparsify, SGA, SSGA, SSGADGC)
SCHEMES: Mapping[str, type[Scheme]] = {scheme.name: scheme for scheme in _ALL}


def parse(spec: str) -> Scheme:
    """The scheme with this spec, such as `powersgd:rank=4`, `topk:ratio=0.01,per=model` or `powersgd:rank=4+sga`.

    Raises:
        GradwireError: an unknown scheme or parameter, a value that does not fit, or schemes that do not compose.
    """
    first, *rest = spec.split("+")
    return reduce(compose, map(_one, rest), _one(first))


def _one(spec: str) -> Scheme:
    """A scheme without a plus."""
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
    union = [get_args(part) or (part,) for part in (get_args(hint) or (hint,)) if part is not type(None)]
    words = [kind for part in union for kind in part if isinstance(kind, str)]
    kinds = [kind for part in union for kind in part if not isinstance(kind, str)]
    if text in words:
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
