"""Schemes by name: `name:key=value,key=value`."""

from collections.abc import Mapping
from functools import reduce

from gradwire import spec_syntax
from gradwire.schemes.autoencoder import Autoencoder
from gradwire.schemes.composed import compose
from gradwire.schemes.dgc import DGC
from gradwire.schemes.dpsgd import DPSGD
from gradwire.schemes.noise import Noise
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.powersgd import PowerSGD
from gradwire.schemes.precode import Precode
from gradwire.schemes.qsgd import QSGD
from gradwire.schemes.randomk import RandomK
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.sga import SGA
from gradwire.schemes.signsgd import SignSGD
from gradwire.schemes.sparsify import Sparsify
from gradwire.schemes.ssga import SSGA
from gradwire.schemes.ssga_dgc import SSGADGC
from gradwire.schemes.topk import TopK

_COMPRESSED = (TopK, RandomK, PowerSGD, DGC, QSGD, SignSGD)
_PERTURBED = (Noise, Sparsify, DPSGD, Autoencoder, Precode)
_SUMMED = (SGA, SSGA, SSGADGC)
SCHEMES: Mapping[str, type[Scheme]] = {
    scheme.name: scheme for scheme in (PlainSGD, *_COMPRESSED, *_PERTURBED, *_SUMMED)
}


def parse(spec: str | Scheme) -> Scheme:
    """The scheme with this spec, such as `powersgd:rank=4`, `topk:ratio=0.01,per=model` or `powersgd:rank=4+sga`.

    Raises:
        GradwireError: an unknown scheme or parameter, a value that does not fit, or schemes that do not compose.
    """
    if isinstance(spec, Scheme):
        return spec
    first, *rest = (spec_syntax.read("scheme", part, SCHEMES) for part in spec.split("+"))
    return reduce(compose, rest, first)
