"""Classes and functions as their source describes them, read without an import: that of torch takes seconds."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REQUIRED = object()
"""The default of a parameter that has none."""
GIVEN = ("shape", "classes", "split", "limit", "self")
"""Parameters that no spec gives: gradwire itself does."""


@dataclass(frozen=True)
class Described:
    """A class or function.

    Attributes:
        doc: the first sentence or line of its docstring.
        parameters: name → default: a literal's value, `REQUIRED`, or the text of an expression.
        hints: name → the text of the annotation of a dataclass's own field.
        attributes: name → what the docstring says of it.
    """

    doc: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Expression:
    """A default that is no literal, as its source has it."""

    text: str


def defaults(place: str) -> Any:
    """The literal defaults of a dataclass, `module:Class`, as attributes; None for any other."""
    found = describe(place).parameters
    return SimpleNamespace(**{k: None if v is REQUIRED or isinstance(v, Expression) else v for k, v in found.items()})


@lru_cache(None)
def describe(place: str) -> Described:
    """What `module:name` is; nothing where its source cannot be found."""
    module, _, name = place.partition(":")
    node = _names(module).get(name)
    if isinstance(node, tuple):
        return describe(":".join(node))
    if isinstance(node, ast.ClassDef):
        hints = {ast.unparse(n.target): ast.unparse(n.annotation) for n in node.body if isinstance(n, ast.AnnAssign)}
        return Described(_first(node), dict(_fields(module, node)), hints, _attributes(node))
    if isinstance(node, ast.FunctionDef):
        return Described(_first(node), _arguments(module, node))
    return Described()


def _first(node: ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").split("\n", 1)[0]


def _attributes(node: ast.ClassDef) -> dict[str, str]:
    _, _, told = (ast.get_docstring(node) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", told, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _fields(module: str, node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass, those of its bases first; the parameters of a class that is none."""
    for base in reversed(node.bases):
        if isinstance(base, ast.Name):
            found = _names(module).get(base.id)
            where = ":".join(found) if isinstance(found, tuple) else f"{module}:{base.id}"
            yield from describe(where).parameters.items()
    fielded = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    for line in node.body:
        if fielded and isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
            yield ast.unparse(line.target), REQUIRED if line.value is None else _value(module, line.value)
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            yield from _arguments(module, line).items()


def _arguments(module: str, node: ast.FunctionDef) -> dict[str, Any]:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    last = [*node.args.defaults, *node.args.kw_defaults]
    values: list[Any] = [REQUIRED] * (len(given) - len(last))
    values += [REQUIRED if value is None else _value(module, value) for value in last]
    return {each.arg: value for each, value in zip(given, values, strict=True) if each.arg not in GIVEN}


def _value(module: str, node: ast.expr) -> Any:
    """What an expression of literals and names of constants is worth."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    if isinstance(node, ast.Call):  # field(default=…)
        return next(
            (_value(module, k.value) for k in node.keywords if k.arg == "default"), Expression(ast.unparse(node))
        )
    if isinstance(node, ast.Name):
        found = _names(module).get(node.id)
        if isinstance(found, tuple):
            other, name = found
            found, module = _names(other).get(name), other
        if isinstance(found, ast.expr):
            return _value(module, found)
    return Expression(ast.unparse(node))


@lru_cache(None)
def _names(module: str) -> Mapping[str, Any]:
    """The top of a module: name → a class, a function, an expression, or where it was imported from."""
    path = _path(module)
    if path is None:
        return {}
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _path(module: str) -> Path | None:
    """The file of a module; only its outermost package is looked up, for to look up a part of it would import it."""
    outer, *inner = module.split(".")
    try:
        spec = find_spec(outer)
    except (ImportError, ValueError):
        return None
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, *inner)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    single = Path(spec.origin) if spec and spec.origin and not inner else None
    return single if single is not None and single.suffix == ".py" else None
