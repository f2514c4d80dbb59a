"""The benchmark of training compares what it says it compares; no test asks how fast this machine is."""

import csv

from gradwire.bench import training, wire
from gradwire.bench.training import Comparison, selection
from gradwire.cli import main
from tests.schemes.rounds import random_update


def small(seed: int = 0):
    return random_update(seed, {"w": (300, 400), "b": (300,)})


def test_a_ratio_is_of_what_stands_beside_it():
    assert Comparison("a", 3.0, "b", 2.0).ratio == 1.5


def test_selection_is_measured_beside_pytorchs(monkeypatch):
    monkeypatch.setattr(training, "resnet18_gradient", small)
    largest, dgc = selection(repeats=1)
    assert (largest.reference, dgc.reference) == ("torch.topk", "topk:ratio=0.01")
    assert all(figure.seconds > 0 and figure.reference_seconds > 0 for figure in (largest, dgc))


def test_the_command_shows_and_writes_its_figures(monkeypatch, tmp_path, capsys):
    figures = [Comparison("ours", 0.001, "theirs", 0.002)]
    monkeypatch.setattr(training, "selection", lambda: figures)
    monkeypatch.setattr(training, "codec", list)
    monkeypatch.setattr(wire, "message_speeds", lambda: (1.5, 9.0))
    main(["bench", "training", "--out", str(tmp_path / "figures.csv")])
    assert "encode 1.50 GB/s" in capsys.readouterr().out
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "measured": "ours",
        "seconds": "0.001",
        "beside": "theirs",
        "beside_seconds": "0.002",
        "ratio": "0.5",
    }
