"""What can be added from outside, by name: schemes, attacks, studies, models, data sets and carriers.

A spec is a name and, behind a colon, parameters: `topk:ratio=0.01`. The name is that of something built in (the tables
below), of an entry point of an installed package, or `package.module:Class` (`terngrad:TernGrad:levels=3`); the current
directory is importable, and so is `__main__`. Nothing is imported before it is used, and this module imports no torch.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from gradwire import spec_syntax
from gradwire.errors import GradwireError, in_line, unknown

T = TypeVar("T")


class Registry(Mapping[str, Any], Generic[T]):
    """One kind of thing by name; as a mapping, name → class (or function), each imported when it is asked for.

    Args:
        kind: what these things are, for messages: "scheme".
        group: the group of entry points that adds to them.
        builtin: name → `module:attribute`.
        bases: `module:Class` of the classes of which each must be an instance of one; none: any callable will do.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str], *bases: str):
        self.kind, self.group, self.builtin, self._bases = kind, group, builtin, bases

    def targets(self) -> dict[str, str]:
        """Name → `module:attribute` of all that is built in or installed."""
        points = _points(self.group, tuple(sys.path))
        installed = {point.name: f"{point.module}:{point.attr}" for point in points}
        return {**self.builtin, **{name: place for name, place in installed.items() if name not in self.builtin}}

    def names(self) -> tuple[str, ...]:
        """The names of all that is built in or installed."""
        return tuple(self.targets())

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets())

    def __len__(self) -> int:
        return len(self.targets())

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self.targets()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.find(name)[0]

    def find(self, spec: str) -> tuple[Any, str, str]:
        """The class or function that a spec names, its name, and the text of its parameters.

        Raises:
            GradwireError: an unknown name, a module that cannot be imported, an attribute that is missing or that is
                of another kind.
        """
        name, _, rest = spec.strip().partition(":")
        what = f"{self.kind} {spec!r}"
        if name in self.builtin:
            return _imported(what, self.builtin[name]), name, rest
        attribute, _, behind = rest.partition(":")
        if ":" in spec and not (name and attribute):
            raise GradwireError(f"{what} is not of the form package.module:{'Class' if self._bases else 'factory'}")
        if attribute and "=" not in attribute:
            name = place = f"{name}:{attribute}"
            rest = behind
        elif (place := self.targets().get(name, "")) == "":
            raise unknown(self.kind, name, self.names())
        found = _imported(what, place)
        if self._bases and not (isinstance(found, type) and issubclass(found, self._classes())):
            raise GradwireError(f"{what} is {_named(found)}; it must be {self._wanted()} class")
        if not callable(found):
            raise GradwireError(f"{what} is {_named(found)}, not callable; name a function or class")
        return found, name, rest

    def parse(self, spec: "str | T", **values: object) -> T:
        """What a spec says; an object of the kind as it is. `values` replace its parameters.

        Raises:
            GradwireError: as `find`, or a parameter that is unknown, missing or of no fitting value.
        """
        if isinstance(spec, str):
            target, name, rest = self.find(spec)
            what, known = f"{self.kind} {spec!r}", spec_syntax.parameters(target)
            given = spec_syntax.read(what, name, rest, known)
        elif not isinstance(spec, self._classes()):
            raise GradwireError(f"{self.kind} is {_named(spec)}; it must be a spec, or {self._wanted()} object")
        elif not values:
            return cast(T, spec)
        else:
            target, name = cast(Any, type(spec)), type(spec).__name__
            what, known = f"{self.kind} {_named(spec)}", spec_syntax.parameters(target)
            given = {key: getattr(spec, key) for key in known if hasattr(spec, key)}
        if strange := [key for key in values if key not in known]:
            raise GradwireError(
                f"{what}: there is no {strange[0]!r}; {name} takes {', '.join(known) or 'no parameters'}"
            )
        given |= values
        for key, parameter in known.items():
            if parameter.default is MISSING and key not in given:
                raise GradwireError(f"{what} lacks {key}: {name}:{key}=VALUE")
        try:
            return cast(T, target(**given))
        except GradwireError:
            raise
        except Exception as error:  # a class from outside may raise anything
            raise GradwireError(f"{what} cannot be made: {_reason(error)}") from error

    def spec(self, value: "str | T") -> str:
        """The spec that `parse` reads back, also in another process; a text as it is.

        Raises:
            GradwireError: an object whose class cannot be imported again, or with a value that no spec can hold.
        """
        if isinstance(value, str):
            return value
        what = f"{self.kind} {_named(value)}"
        if not self._bases:
            return self._name(what, value)
        return spec_syntax.write(what, self._name(what, type(self.parse(value))), value)

    def _name(self, what: str, kind: Any) -> str:
        """The name under which a class or function is found."""
        module = getattr(kind, "__module__", None)
        place = f"{'__main__' if module == '__mp_main__' else module}:{getattr(kind, '__qualname__', None)}"
        for name, target in self.targets().items():
            if target == place:
                return name
        for name, target in self.targets().items():
            if name not in self.builtin and _loaded(target) is kind:
                return name
        if _loaded(place) is not kind:
            raise GradwireError(f"{what}: {place!r} cannot be imported again; define it at the top of a module")
        return place

    def _classes(self) -> tuple[type, ...]:
        return tuple(_imported(self.kind, base) for base in self._bases)

    def _wanted(self) -> str:
        return " or ".join(f"a {base.partition(':')[2]}" for base in self._bases)


@lru_cache(64)
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group, for one search path."""
    return tuple(entry_points(group=group))


def _loaded(place: str) -> object:
    """The attribute that `module:attribute` names; None where there is none."""
    try:
        return _imported("", place)
    except GradwireError:
        return None


def _imported(what: str, place: str) -> Any:
    """The attribute that `module:attribute` names."""
    name, _, attribute = place.partition(":")
    try:
        with nullcontext() if name in sys.modules else _current_directory_importable():
            found: Any = importlib.import_module(name)
    except Exception as error:  # importing runs the code of others, which may raise anything
        raise GradwireError(f"{what}: cannot import module {name!r}: {_reason(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise GradwireError(f"{what}: module {name!r} has no {attribute!r}; name a function or class")
        found = getattr(found, part)
    return found


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Import as `python -m` would; an installed command does not have the current directory on its path."""
    here = os.getcwd()
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _named(value: object) -> str:
    if isinstance(value, type) or inspect.isfunction(value):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__qualname__}"
    return f"a {type(value).__name__}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {in_line(error)}"


def _table(package: str, words: str) -> dict[str, str]:
    """Name → `module:attribute`, from words `name=module:attribute`; without a name it is the module's."""
    places = [word.rpartition("=")[::2] for word in words.split()]
    named = [(name or place.partition(":")[0].replace("_", "-"), place) for name, place in places]
    return {name: f"gradwire.{package}.{place}" for name, place in named}


_SCHEMES = """
    none:PlainSGD topk:TopK randomk:RandomK powersgd:PowerSGD lqsgd:LQSGD dgc:DGC qsgd:QSGD signsgd:SignSGD half:Half
    noise:Noise sparsify:Sparsify dpsgd:DPSGD dpftrl:DPFTRL dpfedavg:DPFedAvg
    autoencoder:Autoencoder precode:Precode sga:SGA ssga:SSGA ssga_dgc:SSGADGC
"""
_ATTACKS = """
    strongest:Strongest exact=exact.attack:Exact annealed=annealed.attack:Annealed learned=learned.attack:Learned
    from-learned=learned.start:FromLearned class_mean:ClassMean
    iga:IGA dlg:DLG idlg:IDLG bayes:Bayes analytic:Analytic ica:ICA fedavg:FedAvg rounds:Rounds tableak:TabLeak
    tokens=text.tokens:TokenSet sentences=text.orders:Sentences dager=text.dager:Dager
"""
_MEMBERSHIP = """
    prediction=confidence:Prediction loss=confidence:Loss cross-entropy=confidence:LossByClass mentr=confidence:Mentr
    label-only=label_only:LabelOnly
    lira:Lira lira-offline=lira:LiraOffline rmia:RMIA rmia-offline=rmia:RMIAOffline
    inner-product=gradients:InnerProduct cosine=gradients:Cosine norm-difference=gradients:NormDifference fedmia:FedMIA
"""
_MODELS = """
    mlp=small:mlp lenet=small:lenet convnet=small:convnet cnn=small:cnn
    resnet18=resnet:resnet18 resnet20=resnet:resnet20 resnet110=resnet:resnet110 resnet50=resnet:resnet50
    bert=text:bert gpt2=text:gpt2 pretrained=text:pretrained
"""
_DATA = """
    digits=splits:load_digits photographs=photographs:load_photographs mnist=hub:mnist fashion_mnist=hub:fashion_mnist
    cifar10=hub:cifar10 cifar100=hub:cifar100 tiny_imagenet=hub:tiny_imagenet
    adult=named_tables:adult location30=named_tables:location30
    diabetes=named_tables:diabetes linnerud=named_tables:linnerud sst2=text:sst2
"""
_CARRIERS = "inprocess=transport:InProcess collective:Collective parameter_server:ParameterServer"

SCHEMES: Registry[Any] = Registry(
    "scheme", "gradwire.schemes", _table("schemes", _SCHEMES), "gradwire.schemes.scheme:Scheme"
)
ATTACKS: Registry[Any] = Registry(
    "attack",
    "gradwire.attacks",
    _table("attacks.inversion", _ATTACKS),
    "gradwire.attacks.inversion.problem:InversionAttack",
)
MEMBERSHIP: Registry[Any] = Registry(
    "attack",
    "gradwire.membership",
    _table("attacks.membership", _MEMBERSHIP),
    "gradwire.attacks.membership.attack:MembershipAttack",
    "gradwire.attacks.membership.gradients:WireAttack",
)
STUDIES: Registry[Any] = Registry("study", "gradwire.studies", {})
MODELS: Registry[Any] = Registry("model", "gradwire.models", _table("models", _MODELS))
DATA: Registry[Any] = Registry("data", "gradwire.data", _table("data", _DATA))
LOSSES: Registry[Any] = Registry("loss", "gradwire.losses", {})
CARRIERS: Registry[Any] = Registry("carrier", "gradwire.carriers", _table("wire", _CARRIERS))
