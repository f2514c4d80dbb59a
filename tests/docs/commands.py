"""Commands of the documentation, understood by what would run them, up to the run itself."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import click

from gradwire.cli import gradwire
from tests.docs.markdown import ROOT

PLACEHOLDERS = {
    "SCHEME": "none", "LR": "0.1", "SEED": "0", "S": "0", "B": "1", "N": "2", "W": "0.1",
    "DATA": "digits", "MODEL": "mlp", "PARTITION": "iid", "PYTHON": "python3", "DIR": "out", "FILE": "steps.0",
    "HOST": "localhost", "NAME": "client:0",
}  # fmt: skip
"""What stands in a command for a value of the reader's own → a value."""
RUNS = {
    "audit": "gradwire.studies:audit gradwire.studies:audit_recording gradwire.studies.active:active_audit",
    "train": "gradwire.studies:run_training",
    "membership": "gradwire.studies.membership:judge_file gradwire.studies.membership:judge_model "
    "gradwire.studies.membership:run_membership gradwire.studies.recorded_membership:membership_of_recording",
    "epsilon": "gradwire.studies.epsilon:run_epsilon",
    "advise": "gradwire.studies.advise:advise",
    "study": "gradwire.studies.grid:run_study",
    "report": "gradwire.report:write",
    "bench inversion": "gradwire.bench.inversion_run:run_inversion",
    "bench training": "gradwire.bench.training:selection gradwire.bench.training:codec",
    "bench ddp": "gradwire.bench.ddp:compare",
    "bench network": "gradwire.bench.network:run_network",
    "bench membership": "gradwire.bench.membership:pool",
    "bench secure": "gradwire.bench.secure:run_secure",
    "bench federated": "gradwire.bench.federated:paces",
    "bench wire": "gradwire.bench.wire:index_costs",
}
"""Command → where its work begins: everything before that has been read, resolved and checked."""
QUICK = ("list", "identity", "study list", "study show", "study findings")
"""Commands without work, which run to their end."""


class Begun(BaseException):
    """The run that a command would start."""


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell block as words: comments left out, variables and placeholders filled in."""
    known: dict[str, str] = {}
    for line in script.replace("\\\n", " ").splitlines():
        # "[--option value]" may be there; "a|b" is one of them; "…" stands for options that were given before.
        line = re.sub(r"\[(,[^\]]*)\]|\[(--[^\]]*)\]", r"\1\2", line).replace(" … ", " ").removesuffix(" …")
        words = shlex.split(line, comments=True)
        if words and re.fullmatch(r"\w+=.*", words[0]):
            name, _, value = words[0].partition("=")
            known[name] = value
        elif words:
            yield [_filled(word, known) for word in words]


def _filled(word: str, known: dict[str, str]) -> str:
    word = re.sub(r"\$(\w+)", lambda found: known[found[1]], word)
    word = re.sub(r"(?<![A-Za-z_./])[A-Z]+(?![A-Za-z_.])", lambda found: PLACEHOLDERS.get(found[0], found[0]), word)
    return word.partition("|")[0] if re.fullmatch(r"\w+\|\w+", word) else word


def understand(words: list[str], monkeypatch) -> None:
    """Check a command by what would run it; an AssertionError, or the command's own error, where it cannot.

    Args:
        monkeypatch: stops gradwire's commands where their work begins.
    """
    program, *rest = words
    if program == "gradwire":
        _begin(rest, monkeypatch)
    elif program == "torchrun":
        if "-m" in rest:
            where = rest.index("-m")
            assert rest[where + 1] == "gradwire", words
            _begin(rest[where + 2 :], monkeypatch)
        else:
            _script(next(each for each in rest if each.endswith(".py")), rest)
    elif program in ("python", "python3") and rest[0] == "-m":
        assert find_spec(rest[1]), f"no module {rest[1]}"
    elif program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(rest) <= targets, f"make has no {set(rest) - targets}"
    elif program == "pip":
        _installed(rest)
    elif program == "flwr":
        assert (ROOT / rest[1] / "pyproject.toml").is_file(), words
    else:
        raise AssertionError(f"nothing here knows how to check {program!r}; mark the block as text")


def _begin(arguments: list[str], monkeypatch) -> None:
    """Run a command up to where its work begins."""

    def stop(*_: object, **__: object) -> None:
        raise Begun

    own, two = arguments[0], " ".join(arguments[:2])
    quick = own.startswith("-") or own in QUICK or two in QUICK or "--dry-run" in arguments
    assert quick or own in RUNS or two in RUNS, f"name in RUNS where the work of 'gradwire {two}' begins"
    for place in RUNS.get(two, RUNS.get(own, "")).split():
        module, _, name = place.partition(":")
        monkeypatch.setattr(import_module(module), name, stop)
    try:
        gradwire(args=arguments, standalone_mode=False)
    except Begun:
        return
    except click.exceptions.Exit:  # --help, --version
        pass
    assert quick, f"{arguments} ended before its work began"


def _script(path: str, words: list[str]) -> None:
    """A script is there, and knows each option behind its name."""
    source = (ROOT / path).read_text()
    for option in (word for word in words[words.index(path) :] if word.startswith("--")):
        assert f'"{option}"' in source, f"{path} has no option {option}"


def _installed(words: list[str]) -> None:
    """What pip is asked for is this project, or one of its extras, or a package that an extra names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in (word for word in words[1:] if not word.startswith("-")):
        name, _, extras = word.removesuffix("]").partition("[")
        if (ROOT / name).exists():
            continue
        named = {re.split(r"[\[<>=]", each)[0] for extra in project["optional-dependencies"].values() for each in extra}
        assert name == "gradwire" or name in named, f"no extra brings {name}"
        if name == "gradwire":
            assert set(filter(None, extras.split(","))) <= project["optional-dependencies"].keys(), word
