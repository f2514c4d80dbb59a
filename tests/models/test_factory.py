import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gradwire import models
from gradwire.errors import GradwireError

SHAPE = (1, 4, 4)

NETS = """
import torch
from torch import nn

ready = nn.Linear(2, 2)
number = 3

def nothing():
    return nn.Linear(16, 10)

def both(shape, classes):
    return nn.Linear(shape[0] * shape[1] * shape[2], classes)

def keywords(**given):
    assert set(given) == {"shape", "classes"}
    return nn.Linear(1, given["classes"])

def only_classes(width=5, *, classes):
    return nn.Linear(width, classes)

class Net(nn.Linear):
    def __init__(self, classes):
        super().__init__(16, classes)

def needs_more(shape, secret):
    return nn.Linear(1, 1)

def fails():
    raise RuntimeError("first\\nsecond")

def no_module():
    return 7

def frozen():
    return nn.Linear(1, 1).requires_grad_(False)

def no_parameters():
    return nn.ReLU()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with the modules `own_nets` and `broken_nets`, which are forgotten afterwards."""
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "broken_nets.py").write_text("import no_such_package\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    for module in ("own_nets", "broken_nets", "package", "package.inner_nets"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("factory", "features", "classes"),
    [("nothing", 16, 10), ("both", 16, 4), ("keywords", 1, 4), ("only_classes", 5, 4), ("Net", 16, 4)],
)
def test_a_factory_gets_what_it_takes(factory: str, features: int, classes: int) -> None:
    net = models.build(f"own_nets:{factory}", SHAPE, classes=4)
    assert isinstance(net, nn.Linear)
    assert (net.in_features, net.out_features) == (features, classes)


@pytest.mark.usefixtures("here")
def test_a_factory_in_a_package() -> None:
    assert isinstance(models.build("package.inner_nets:both", SHAPE, 4), nn.Linear)


@pytest.mark.usefixtures("here")
def test_a_users_network_is_not_normalised() -> None:
    assert isinstance(models.build("own_nets:both", SHAPE, 4, [0.5], [0.5]), nn.Linear)


@pytest.mark.usefixtures("here")
def test_a_seed_decides_for_users_too() -> None:
    before = torch.random.get_rng_state()
    first, again = (models.build("own_nets:both", SHAPE, 4, seed=0).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_search_path_is_left_as_it_was(here: Path) -> None:
    before = list(sys.path)
    models.build("own_nets:both", SHAPE, 4)
    assert sys.path == before
    assert str(here) not in sys.path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:net", "cannot import module 'no_such_module': ModuleNotFoundError: No module named"),
        (
            "broken_nets:net",
            "cannot import module 'broken_nets': ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("own_nets:absent", "module 'own_nets' has no 'absent'"),
        ("own_nets:number", "'own_nets:number' is a int, not callable"),
        ("own_nets:ready", "is a network already"),
        ("own_nets:no_module", "returned a int; it must return a torch.nn.Module"),
        ("own_nets:frozen", "no parameter that requires a gradient"),
        ("own_nets:no_parameters", "no parameter that requires a gradient"),
        ("own_nets:fails", "failed when called: RuntimeError: first second"),
        ("own_nets:needs_more", "missing 1 required positional argument: 'secret'"),
        (":net", "not of the form package.module:factory"),
        ("own_nets:", "not of the form package.module:factory"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        models.build(spec, SHAPE, 4)
    assert "\n" not in str(caught.value)
    assert repr(spec) in str(caught.value)


def lazy(shape, classes):
    return nn.Sequential(nn.BatchNorm2d(shape[0]), nn.Flatten(), nn.LazyLinear(classes))


def lazy_and_narrow(shape, classes):
    return nn.Sequential(nn.Conv2d(9, 2, 1), nn.Flatten(), nn.LazyLinear(classes))


def test_lazy_layers_get_their_shapes_from_the_data() -> None:
    first, again = (models.build(lazy, (1, 4, 4), 3, seed=5) for _ in range(2))
    assert first[2].weight.shape == (3, 16)
    assert torch.equal(first[2].weight, again[2].weight)
    assert first.training
    assert first[0].training
    assert first[0].num_batches_tracked == 0


def test_lazy_layers_that_do_not_suit_the_data_are_refused() -> None:
    with pytest.raises(GradwireError, match=r"has lazy layers, and failed on inputs of shape \(1, 4, 4\): Runtime"):
        models.build(lazy_and_narrow, (1, 4, 4), 3)
