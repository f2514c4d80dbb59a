"""Names, modules, entry points and objects: what resolves, what reads back, and what is refused in one line."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch

import gradwire
from gradwire import data, models, registry
from gradwire.attacks.inversion import IGA
from gradwire.attacks.membership import RMIA
from gradwire.errors import GradwireError
from gradwire.registry import ATTACKS, CARRIERS, DATA, MEMBERSHIP, MODELS, SCHEMES, STUDIES, Registry
from gradwire.schemes import parse, spec_of
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.topk import TopK
from gradwire.studies.membership import MembershipSettings
from gradwire.training import TrainSettings
from tests.test_testing import SPECS

MODULE = """
from dataclasses import dataclass
from gradwire.attacks.inversion import IGA
from gradwire.schemes.none import PlainSGD

@dataclass(frozen=True)
class Mine(PlainSGD):
    name = "mine"
    levels: int = 2
    word: str = "a"
    share: float | None = 0.5

    class Inner(PlainSGD):
        pass

@dataclass(frozen=True)
class Needy(PlainSGD):
    level: int

class Fails(PlainSGD):
    def __init__(self):
        raise RuntimeError("first\\nsecond")

@dataclass(frozen=True)
class Attack(IGA):
    name = "attack"

def helper(): ...

def pixels(split, limit, classes=3):
    import torch
    from gradwire.data import image_dataset
    n = min(limit or 9, 9)
    images, labels = torch.zeros(n, 1, 4, 4), torch.arange(n) % classes
    return image_dataset("pixels", split, images, labels, tuple("abcdefg"[:classes]))

def wrong(split, limit):
    return 7

def wide(shape, classes, width: int = 4):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width), nn.Linear(width, classes))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_things.py").write_text(MODULE)
    (tmp_path / "broken_things.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    for module in ("own_things", "broken_things"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def specs(kind):
    return [spec for name in kind for spec in (SPECS.get(name, (name,)) if kind is SCHEMES else (name,))]


def test_every_spec_reads_back_in_a_fresh_process():
    """What this process writes, another one reads to what writes the same; neither has imported anything for it."""
    own = ["iga:restarts=4,tv=0.001", "bayes:prior=patch,scale=0.3", "dlg:optimizer=lbfgs"]
    doors = {"SCHEMES": SCHEMES, "ATTACKS": ATTACKS, "MEMBERSHIP": MEMBERSHIP}
    written = {}
    for door, kind in doors.items():
        read = parse if kind is SCHEMES else kind.parse
        found = [read(spec) for spec in (*specs(kind), *(own if kind is ATTACKS else ()))]
        assert [read(each.spec) for each in found] == found
        written[door] = [[each.spec, repr(each)] for each in found]
    code = """
import json, sys
from gradwire import registry
for door, specs in json.load(sys.stdin).items():
    for spec, told in specs:
        read = getattr(registry, door).parse
        if "+" in spec:
            from gradwire.schemes import parse as read
        found = read(spec)
        assert (found.spec, repr(found)) == (spec, told), spec
"""
    subprocess.run([sys.executable, "-c", code], input=json.dumps(written), text=True, check=True)


@pytest.mark.usefixtures("here")
def test_a_class_of_ones_own_by_its_module_and_as_an_object():
    mine = parse("own_things:Mine:levels=3,share=none")
    assert (mine.levels, mine.share, mine.spec) == (3, None, "own_things:Mine:levels=3,share=none")
    assert parse(mine.spec) == mine
    assert parse(mine) is mine
    assert parse("own_things:Mine.Inner").spec == "own_things:Mine.Inner"
    assert parse("own_things:Mine+sga").spec == "own_things:Mine+sga"
    attack = ATTACKS.parse("own_things:Attack:tv=0.5")
    assert ATTACKS.parse(attack, iterations=3).spec == "own_things:Attack:iterations=3,tv=0.5"


@pytest.mark.usefixtures("here")
def test_settings_take_objects_and_hold_specs():
    mine = parse("own_things:Mine")
    assert TrainSettings(scheme=mine).scheme == "own_things:Mine"
    settings = MembershipSettings(schemes=(mine, parse("powersgd+sga")), attacks=("loss", RMIA(gamma=1.5)))
    assert settings.schemes == ("own_things:Mine", "powersgd+sga")
    assert settings.attacks == ("loss", "rmia:gamma=1.5")
    assert settings.query_attacks["rmia:gamma=1.5"] == RMIA(gamma=1.5)
    assert MembershipSettings(model=models.registry.MODELS["lenet"]).model == "lenet"


@pytest.mark.usefixtures("here")
def test_a_captured_object_is_inverted_by_an_object():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    view = gradwire.capture(model, torch.rand(1, 1, 4, 4), torch.tensor([1]), scheme=parse("own_things:Mine:levels=5"))
    assert view.scheme == "own_things:Mine:levels=5"
    by_object = gradwire.invert(view, attack=IGA(iterations=2, tv=0.1))
    assert torch.equal(by_object.inputs, gradwire.invert(view, attack="iga:tv=0.1", iterations=2).inputs)
    assert torch.equal(by_object.inputs, gradwire.invert(view, IGA(tv=0.1), iterations=2).inputs)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "unknown scheme 'nowhere'; known: none, topk, "),
        ("nowhere:level=3", "unknown scheme 'nowhere'; known: none, topk, "),
        ("nowhere:Mine", "scheme 'nowhere:Mine': cannot import module 'nowhere': ModuleNotFoundError: No module named"),
        ("broken_things:Mine", "cannot import module 'broken_things': ModuleNotFoundError: No module named 'no_such"),
        ("own_things:Absent", "scheme 'own_things:Absent': module 'own_things' has no 'Absent'"),
        ("own_things:helper", "scheme 'own_things:helper' is the function helper; it must be a Scheme class"),
        ("own_things:Attack", "scheme 'own_things:Attack' is the class Attack; it must be a Scheme class"),
        ("own_things:Mine:level=3", "cannot read 'level=3'; own_things:Mine takes levels, word, share, as key=value"),
        ("own_things:Mine:levels=two", "levels is 'two'; it must be a whole number"),
        ("own_things:Needy", "scheme 'own_things:Needy' lacks level: own_things:Needy:level=VALUE"),
        ("own_things:Fails", "scheme 'own_things:Fails' cannot be made: RuntimeError: first second"),
        (":Mine", "scheme ':Mine' is not of the form package.module:Class"),
        (7, "scheme is a int; it must be a spec, or a Scheme object"),
        (PlainSGD, "scheme is the class PlainSGD; it must be a spec, or a Scheme object"),
    ],
)
def test_what_cannot_be_is_named_in_one_line(spec, message):
    with pytest.raises(GradwireError) as caught:
        parse(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Tensored(PlainSGD):
    """Has parameters that no spec can hold."""

    name: ClassVar[str] = "tensored"

    words: str = ""
    numbers: tuple[int, ...] = ()
    sides: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"words": "a,b"}, "scheme a Tensored: words is 'a,b', which cannot be written in a spec"),
        ({"words": "a+b"}, r"words is 'a\+b'"),
        ({"numbers": (1, 2)}, r"numbers is \(1, 2\), which cannot be written in a spec"),
    ],
)
def test_what_no_spec_can_hold_is_refused_by_name(changed, message):
    with pytest.raises(GradwireError, match=message):
        _ = Tensored(**changed).spec
    assert parse(Tensored().spec) == Tensored()


def test_a_local_class_is_refused_by_name():
    class Local(PlainSGD):
        pass

    with pytest.raises(
        GradwireError, match=r"Local: '.*<locals>\.Local' cannot be imported again; define it at the top"
    ):
        spec_of(Local())
    with pytest.raises(GradwireError, match="cannot be imported again"):
        TrainSettings(scheme=Local())


def test_a_class_of_the_program_itself_is_found(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from gradwire.schemes import parse\nfrom gradwire.schemes.none import PlainSGD\n"
        "class Mine(PlainSGD): pass\n"
        "assert parse(Mine().spec) == Mine() and Mine().spec == '__main__:Mine'\n"
    )
    subprocess.run([sys.executable, program], check=True)


def test_an_entry_point_that_is_broken_says_so_and_leaves_the_others_alone(monkeypatch):
    points = (
        EntryPoint("bad", "no_such_package:Thing", "gradwire.schemes"),
        EntryPoint("topk", "x:Y", "gradwire.schemes"),
    )
    monkeypatch.setattr(registry, "_points", lambda group, path: points if group == "gradwire.schemes" else ())
    with pytest.raises(GradwireError, match="scheme 'bad': cannot import module 'no_such_package'"):
        parse("bad")
    assert isinstance(parse("topk:ratio=0.1"), TopK)
    assert SCHEMES.names()[-1] == "bad"


@pytest.mark.usefixtures("here")
def test_data_and_models_of_ones_own_take_keys():
    assert data.load("own_things:pixels:test=4,classes=2", "test").outputs == 2
    assert len(data.load("own_things:pixels:test=4", "test", limit=7)) == 4
    pixels, *_ = DATA.find("own_things:pixels")
    assert len(data.load(pixels, "train", limit=2)) == 2
    with pytest.raises(GradwireError, match="data 'own_things:wrong' gave a int; it must give a"):
        data.load("own_things:wrong")
    with pytest.raises(GradwireError, match="takes train, test, classes, as key=value"):
        data.load("own_things:pixels:tests=4")
    net = models.build("own_things:wide:width=7", (1, 4, 4), 3)
    assert net[1].out_features == 7
    wide, *_ = MODELS.find("own_things:wide")
    assert models.build(wide, (1, 4, 4), 3)[1].out_features == 4
    assert isinstance(data.load("digits", limit=1), data.Dataset)


@pytest.mark.parametrize("kind", [SCHEMES, ATTACKS, MEMBERSHIP, STUDIES, MODELS, DATA, CARRIERS])
def test_all_that_is_built_in_is_there(kind):
    assert isinstance(kind, Registry)
    assert all(callable(found) for found in kind.values())
    assert len(kind) == len(kind.names())
    with pytest.raises(KeyError):
        kind["nowhere"]
