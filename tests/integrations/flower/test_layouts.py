"""Arrays that are not what a run, a client or a scheme can have: refused by name."""

import pytest

pytest.importorskip("flwr")

import torch

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod
from tests.integrations.flower.local import LocalGrid, app, ask
from tests.integrations.flower.test_flower import NODES, change, federation, start


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (lambda a: {name: t for name, t in a.items() if name != "w"}, "array 'w' is None; ((12, 20), torch.float32)"),
        (lambda a: a | {"b": a["b"][:1]}, "array 'b' is ((1,), torch.float32); ((7,), torch.float32)"),
        (lambda a: a | {"seen": a["seen"] + 0.5}, "array 'seen' is ((), torch.float32); ((), torch.int64)"),
        (lambda a: a | {"x": a["b"]}, "array 'x' is ((7,), torch.float32); None"),
        (lambda a: a | {"w": a["w"] * torch.nan}, "gradient of 'w' is not finite in 240 of 240 entries"),
    ],
)
def test_what_training_must_not_make_of_the_arrays(wrong, what):
    _, grid = federation("none", train=lambda node, round, arrays: wrong(arrays))
    (reply,) = grid.send_and_receive([ask(start(), 70)])
    assert what in reply.error.reason


def test_a_frozen_array_stays():
    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = torch.nn.Parameter(torch.zeros(12, 20)), torch.nn.Parameter(torch.ones(7), False)

    model = Half()
    _, grid = federation("none", parameters=None, model=model, train=lambda n, r, a: {k: t + 1 for k, t in a.items()})
    (reply,) = grid.send_and_receive([ask(model.state_dict(), 70)])
    assert reply.error.reason == "training changed 'b', which is frozen in the server's model"


@pytest.mark.parametrize("change", [{"b": torch.ones(1)}, {"b": None}, {"more": torch.ones(1)}])
def test_a_layout_that_changes_within_a_run_is_refused(change):
    _, grid = federation("none")
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    arrays = {name: t for name, t in (start() | change).items() if t is not None}
    with pytest.raises(GradwireError, match=r"the strategy's array '(b|more)' is .* was due: layouts stay in a run"):
        grid.send_and_receive([ask(arrays, node) for node in NODES])


def test_a_client_goes_along_with_its_own_scheme_and_parameters_only():
    inner = LocalGrid({70: app("qsgd", 70, change)})
    (reply,) = inner.send_and_receive([ask(start(), 70)])
    assert "the server asks for plain arrays; this client sends only qsgd" in reply.error.reason
    (reply,) = SchemeGrid(inner, "none", ("w",)).send_and_receive([ask(start(), 70)])
    assert "the server runs scheme 'none'; this client's is 'qsgd'" in reply.error.reason
    strict = SchemeMod("none", ("w", "b"))
    inner, grid = federation("none", parameters=("b",))
    made = inner.asked
    list(grid.send_and_receive([ask(start(), 70)]))
    with pytest.raises(GradwireError, match=r"names parameters \['b'\]; this client's are \('w', 'b'\)"):
        strict(made[0], inner.contexts[11], lambda message, context: pytest.fail("it was trained"))


def test_different_arrays_for_different_clients_are_refused():
    _, grid = federation("none")
    messages = [ask(start() | {"b": torch.full((7,), float(node))}, node) for node in NODES]
    with pytest.raises(GradwireError, match="the strategy sends clients different arrays"):
        grid.send_and_receive(messages)


@pytest.mark.parametrize(
    ("arrays", "names", "what"),
    [
        (start(), ("weights",), "parameter 'weights' is not among the arrays w, b, mean, seen"),
        ({"seen": torch.tensor(0)}, None, "none of the arrays seen is a parameter"),
        (start(), ("w", "seen"), "update of 'seen' is of torch.int64; it must be a dense tensor of real numbers"),
        ({"w": torch.ones(2), "z": torch.ones(2, dtype=torch.complex64)}, ("w",), "array 'z' is complex"),
    ],
)
def test_arrays_that_no_scheme_carries(arrays, names, what):
    _, grid = federation("none", parameters=names)
    with pytest.raises(GradwireError, match=what):
        grid.send_and_receive([ask(arrays, 70)])
