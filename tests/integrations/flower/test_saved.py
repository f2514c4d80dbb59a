"""A ServerApp that starts again goes on from a saved grid, bit for bit."""

import random

import pytest

pytest.importorskip("flwr")

import torch

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid
from tests.integrations.flower.local import ask
from tests.integrations.flower.test_flower import NAMES, NODES, federation, start


def play(grid, arrays, rounds):
    for round in rounds:
        replies = list(grid.send_and_receive([ask(arrays, node, round) for node in NODES]))
        assert not grid.refused
        arrays = replies[0].content["arrays"].to_torch_state_dict()
    return arrays


@pytest.mark.parametrize("spec", ["topk:ratio=0.1", "powersgd:rank=2", "qsgd", "sga", "sga:threshold=2", "noise:std=1"])
def test_a_saved_grid_goes_on_bit_for_bit(spec, tmp_path):
    random.seed(0)
    _, whole = federation(spec)
    expected = play(whole, start(), range(1, 5))
    inner, grid = federation(spec)
    half = play(grid, start(), (1, 2))
    grid.save(tmp_path / "grid")
    again = SchemeGrid(inner, spec)
    again.load(tmp_path / "grid")
    arrays = play(again, half, (3, 4))
    assert {name: t.dtype for name, t in arrays.items()} == {name: t.dtype for name, t in start().items()}
    assert all(torch.equal(arrays[name], tensor) for name, tensor in expected.items())
    assert (again.round, again.arrays.parameters) == (4, list(NAMES))


def test_what_another_grid_saved_is_refused(tmp_path):
    _, grid = federation("qsgd")
    with pytest.raises(GradwireError, match="there is no saved grid"):
        grid.load(tmp_path / "grid")
    grid.save(tmp_path / "grid")
    for other, what in (
        (SchemeGrid(None, "none"), "has scheme='qsgd'; this grid has scheme='none'"),
        (SchemeGrid(None, "qsgd", weighted_by=None), "has weighted_by='num-examples'"),
        (SchemeGrid(None, "qsgd", seed=3), "has seed=0; this grid has seed=3"),
    ):
        with pytest.raises(GradwireError, match=what):
            other.load(tmp_path / "grid")
