"""Schemes by spec: `name:key=value,key=value`, composed by `+`."""

from functools import reduce
from typing import TYPE_CHECKING

from gradwire.registry import SCHEMES

if TYPE_CHECKING:
    from gradwire.schemes.scheme import Scheme


def parse(spec: "str | Scheme") -> "Scheme":
    """The scheme with this spec, such as `topk:ratio=0.01,per=model` or `powersgd:rank=4+sga`; a scheme as it is.

    Raises:
        GradwireError: an unknown scheme or parameter, a value that does not fit, or schemes that do not compose.
    """
    if not isinstance(spec, str) or "+" not in spec:
        return SCHEMES.parse(spec)
    from gradwire.schemes.composed import compose

    return reduce(compose, map(SCHEMES.parse, spec.split("+")))


def spec_of(scheme: "str | Scheme") -> str:
    """The spec of a scheme, which `parse` reads back, also in another process; a spec as it is."""
    return scheme if isinstance(scheme, str) else parse(scheme).spec
