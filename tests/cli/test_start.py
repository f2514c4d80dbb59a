"""What needs no torch loads none, and what is not used is not imported."""

import subprocess
import sys
from dataclasses import MISSING, fields

import pytest

from gradwire import registry
from gradwire.bench.federated import SETTINGS
from gradwire.bench.inversion import InversionSettings
from gradwire.cli.bench import FEDERATIONS
from gradwire.cli.source import REQUIRED, Expression, defaults, describe
from gradwire.studies import AuditSettings
from gradwire.studies.advise import AdviseSettings
from gradwire.studies.epsilon import EpsilonSettings
from gradwire.studies.membership import MembershipSettings
from gradwire.training import TrainSettings

SLOW = ("scipy", "cryptography", "PIL", "datasets", "torchmetrics", "sklearn", "matplotlib", "pyarrow", "rich")
KINDS = (registry.SCHEMES, registry.ATTACKS, registry.MEMBERSHIP)


def loaded(code):
    """The modules that are loaded when a program has ended."""
    told = f"import sys\n{code}\nprint('loaded', *sys.modules)"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in found.stdout.splitlines()[-1].split()}


COMMANDS = ("audit", "train", "membership", "epsilon", "advise", "study", "report", "bench")


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["list"], *([name, "--help"] for name in COMMANDS), ["bench", "inversion", "--help"]],
)
def test_help_and_list_load_no_torch(arguments):
    code = f"from gradwire.__main__ import run\nsys.argv[1:] = {arguments}\ntry: run()\nexcept SystemExit: pass"
    assert not {"torch", "numpy", *SLOW} & loaded(code)


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from gradwire.__main__ import run
"""


@pytest.mark.parametrize("arguments", [["study", "show", "ssga-fig3"], ["train"]])
def test_without_torch_a_command_that_needs_it_says_so_in_one_line(arguments):
    code = f"{WITHOUT_TORCH}sys.argv[1:] = {arguments}\nrun()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "gradwire: this needs torch, which is not installed; install gradwire with its dependencies\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


def test_what_is_not_used_is_not_imported():
    assert not {"torch", *SLOW} & loaded("import gradwire")
    used = loaded(
        "import gradwire; gradwire.capture, gradwire.invert, gradwire.score, gradwire.View, gradwire.ddp_hook"
    )
    assert "torch" in used
    assert not set(SLOW) & used


@pytest.mark.parametrize("place", [place for kind in KINDS for place in kind.targets().values()])
def test_the_source_tells_what_the_class_says(place):
    module, _, name = place.partition(":")
    kind = getattr(__import__(module, fromlist=[name]), name)
    found = describe(place)
    assert found.doc == kind.__doc__.split("\n", 1)[0]
    assert found.parameters == {f.name: REQUIRED if f.default is MISSING else f.default for f in fields(kind)}


@pytest.mark.parametrize(
    "kind", [AdviseSettings, AuditSettings, MembershipSettings, EpsilonSettings, TrainSettings, InversionSettings]
)
def test_options_have_the_defaults_of_the_settings(kind):
    place = f"{kind.__module__}:{kind.__qualname__}"
    made, read = kind(), vars(defaults(place))
    told = {name for name, value in describe(place).parameters.items() if not isinstance(value, Expression)}
    assert {f.name for f in fields(kind)} - told <= {"schemes"}
    assert {name: read[name] for name in told} == {name: getattr(made, name) for name in told}


def test_the_bench_offers_the_settings_that_there_are():
    assert tuple(SETTINGS) == FEDERATIONS
