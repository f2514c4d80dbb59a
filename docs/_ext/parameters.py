"""The hyper-parameters of schemes and attacks, and how they are spelt, from the classes' own declarations."""

import inspect
import re
from dataclasses import MISSING, fields

from gradwire import registry, spec_syntax
from gradwire.registry import Registry

KINDS: dict[str, Registry] = {
    "scheme": registry.SCHEMES,
    "attack": registry.ATTACKS,
    "membership": registry.MEMBERSHIP,
}


def described(cls: type) -> dict[str, str]:
    """Name → what the docstrings of a class and its bases say of an attribute, the nearest first."""
    found: dict[str, str] = {}
    for each in cls.__mro__:
        _, _, told = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for names, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", told, re.MULTILINE):
            found.setdefault(names, " ".join(text.split()))
    for name, text in list(found.items()):
        for other in re.findall(r"`(\w+)`", text):
            found.setdefault(other, f"see `{name}`")
    return found


def table(kind: str, name: str) -> str:
    """What a spec of this name takes: parameter, default, meaning."""
    cls = KINDS[kind][name]
    words = described(cls)
    rows = [field for field in fields(cls) if field.init]
    told = [f"Spelt `{spelt(kind, name)}`."] if (kind, name) in EXAMPLES else []
    told += [needs(name)] if kind == "scheme" else []
    if not rows:
        return " ".join([f"`{name}` takes no parameters.", *told])
    lines = ["| parameter | default | |", "|---|---|---|"]
    for field in rows:
        default = "required" if field.default is MISSING else _text(field.default)
        lines.append(f"| `{field.name}` | {default} | {_cell(words.get(field.name, ''))} |")
    return "\n".join([*lines, "", *told])


def spelt(kind: str, name: str) -> str:
    """A spec of this name, with one value for what has to be given."""
    return EXAMPLES.get((kind, name), name)


def needs(name: str) -> str:
    """What a scheme needs of its carrier, as a sentence."""
    scheme = KINDS["scheme"].parse(spelt("scheme", name))
    wanted = sorted(need.value for need in scheme.needs)
    return f"It needs {'; '.join(wanted)}." if wanted else "It needs nothing of its carrier."


EXAMPLES = {
    ("scheme", "topk"): "topk:ratio=0.01",
    ("scheme", "randomk"): "randomk:ratio=0.01",
    ("scheme", "noise"): "noise:std=0.01",
    ("scheme", "sparsify"): "sparsify:drop=0.9",
}
"""Specs of what cannot stand alone."""


def _text(default: object) -> str:
    if default is None or default == "":
        return "–"
    return f"`{spec_syntax.text(default)}`"


def _cell(words: str) -> str:
    return words.replace("|", "\\|")
