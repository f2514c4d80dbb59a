"""What others call: its names, that all of it is typed, and that the type checker holds it to `mypy --strict`."""

import inspect
import tomllib
import typing
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

import pytest

PUBLIC = {
    "gradwire": (
        *("GradwireError", "Guess", "Score", "View", "WireError", "capture", "ddp_hook", "fsdp_hook"),
        *("invert", "judge", "outer_step", "score"),
    ),
    "gradwire.testing": ("check_attack", "check_carrier", "check_scheme"),
    "gradwire.integrations": ("HookState", "OuterStep", "ddp_hook", "outer_step"),
    "gradwire.integrations.checkpoint": ("RankState",),
    "gradwire.integrations.flower": ("SchemeGrid", "SchemeMod", "local_steps", "run", "scheme_network"),
}
"""Module → what it offers, by the name under which it is documented. What is missing here may change without a word."""
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]


def strict():
    """The modules of which pyproject.toml asks for all that `mypy --strict` does, and what it asks."""
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["mypy"]
    (found,) = [part for part in settings["overrides"] if "warn_return_any" in part]
    return found


def offered(module):
    if module.startswith("gradwire.integrations.flower"):
        pytest.importorskip("flwr")
    return import_module(module)


@pytest.mark.parametrize("module", PUBLIC)
def test_each_module_offers_these_names(module):
    assert sorted(offered(module).__all__) == sorted(PUBLIC[module])


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_what_is_offered_is_checked_strictly(module, name):
    places = (module, getattr(offered(module), name).__module__)
    assert all(any(fnmatchcase(place, kept) for kept in strict()["module"]) for place in places), places


def test_strictly_means_what_the_type_checker_means_by_it():
    """Its flags that can be set for a module; classes of libraries that are not installed may be subclassed."""
    asked = ("any_generics", "untyped_calls", "incomplete_defs", "untyped_decorators")
    for flag in (*(f"disallow_{each}" for each in asked), "warn_return_any", "strict_equality", "extra_checks"):
        assert strict()[flag] is True
    assert strict()["implicit_reexport"] is False


def untyped(function, names=None):
    """The parameters of a function, and "return", that say nothing of their type or `Any`; what it passes on may."""
    hints = typing.get_type_hints(function, localns=names)
    parameters = inspect.signature(function).parameters.values()
    told = [each.name for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD]
    return [name for name in (*told, "return") if hints.get(name, typing.Any) is typing.Any]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_parameter_and_every_answer_has_a_type(module, name):
    thing = getattr(offered(module), name)
    if not inspect.isclass(thing):
        assert not untyped(thing, vars(offered(module)))
        return
    own = {n: f for n, f in vars(thing).items() if inspect.isfunction(f) and (not n.startswith("_") or n == "__call__")}
    assert {n: untyped(f) for n, f in own.items() if untyped(f)} == {}
    assert typing.Any not in typing.get_type_hints(thing).values()


def test_what_has_no_type_is_seen():
    def loose(one, two: int, three: typing.Any) -> None: ...

    assert untyped(loose) == ["one", "three"]
