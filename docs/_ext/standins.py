"""Packages that the site is built without: each of their names is an empty class, so that code beside them loads."""

import sys
from abc import ABCMeta
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ClassVar

ABSENT = ("flwr",)


class _StandIn(ModuleType):
    """A module in which every name is a class of this name."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = ABCMeta(name, (), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in ABSENT else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


def setup(app) -> dict[str, bool]:
    """Find the stand-ins after everything that is installed."""
    sys.meta_path.append(_Finder())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
