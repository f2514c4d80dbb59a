"""What a training tells of the residuals that its clients keep."""

import csv

import pytest
import torch

from gradwire import data
from gradwire.studies.plan import find
from gradwire.studies.training import _residual, run_training
from gradwire.training import TrainSettings, begin


@pytest.mark.parametrize(
    ("scheme", "kept"), [("none", False), ("ssga:compression=20", True), ("powersgd:rank=1", True)]
)
def test_their_deviation_is_in_the_table(scheme, kept, tmp_path):
    settings = TrainSettings(scheme=scheme, clients=2, rounds=2, batch_size=8)
    folder = run_training("digits", "mlp", settings, eval_every=1, out=tmp_path / "run")
    told = [row["residual"] for row in csv.DictReader((folder / "results.csv").open())]
    assert [float(each) > 0 for each in told] == [True, True] if kept else told == ["", ""]


def test_it_is_that_of_all_entries_of_all_clients():
    settings = TrainSettings(scheme="ssga:compression=20", clients=2, rounds=1)
    state = begin(settings, data.load("digits").network("mlp", 0))
    size = sum(p.numel() for p in state.model.parameters())
    values = torch.randn(2, size)
    private = {f"client:{i}": {"residual": values[i]} for i in range(2)}
    assert _residual(settings, state, private) == pytest.approx(float(values.std(unbiased=False)), rel=1e-5)


def test_figure_4_asks_for_early_and_late_ones():
    smoke = find("ssga-fig4", "smoke")
    assert {cell.settings["rounds"] for cell in smoke.cells} == {10, 40, 120}
