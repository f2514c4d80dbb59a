"""Options that are about pictures, on tables: refused by name; and the attacks without them, on tables."""

import pytest
import torch
from torch import nn

import gradwire
from gradwire.errors import GradwireError
from tests.attacks.inversion.tables import DOMAIN, captured, fields, rows


@pytest.mark.parametrize(
    ("attack", "work", "words"),
    [
        ("iga", {}, "iga: tv=0.0001 is for pictures, and these inputs are rows; say iga:tv=0"),
        ("rounds:tv=1", {}, "rounds: tv=1 is for pictures, and these inputs are rows; say rounds:tv=0"),
        ("fedavg", {"local_steps": 2}, "fedavg: tv=0.0001 is for pictures, and these inputs are rows; say fedavg:tv=0"),
        ("bayes", {}, "bayes: prior=tv is for pictures, and these inputs are rows; try tableak, or iga:tv=0"),
        ("bayes:prior=patch", {}, "bayes: prior=patch is for pictures, and these inputs are rows"),
    ],
)
def test_on_rows_they_are_refused(attack, work, words):
    with pytest.raises(GradwireError, match=words):
        gradwire.invert(captured(rows(2), lr=0.1, **work) if work else captured(rows(2)), attack)


@pytest.mark.parametrize("attack", ["iga:tv=0,step=0.1,signed=false,decay=cosine", "dlg:step=0.1"])
def test_without_them_searches_find_a_row(attack):
    held = rows(1)
    assert fields(gradwire.invert(captured(held), attack, iterations=150), held) >= 0.85


@pytest.mark.parametrize("free", [False, True])
def test_local_steps_are_simulated_on_rows(free):
    held = rows(1)
    view = captured(held, local_steps=3, local_batch=1, lr=0.05)
    guess = gradwire.invert(view, f"fedavg:tv=0,step=0.1,signed=false,free={free}".lower(), iterations=100)
    assert torch.equal(guess.inputs, DOMAIN.snapped(guess.inputs))
    assert fields(guess, held) >= 0.85


def test_pictures_of_one_row_of_pixels_have_a_finite_objective():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3))
    view = gradwire.capture(model, torch.rand(1, 1, 1, 12), torch.tensor([1]))
    guess = gradwire.invert(view, "iga", iterations=20, restarts=2)
    assert bool(guess.objective.isfinite().all())
    assert guess.lost == 0
