"""The benchmark of DDP's hooks compares what it says it compares; no test asks how fast this machine is."""

import csv

import pytest

from gradwire.bench import ddp
from gradwire.bench.ddp import POWERSGD, HookTime
from gradwire.cli import main


def test_a_ratio_is_the_median_over_turns():
    times = {"none": [(3.0, 2.0), (4.0, 2.0), (50.0, 3.0)], "all-reduce hook": [(1.0, 1.0), (2.0, 1.0), (1.0, 1.0)]}
    found = ddp._compared("none", times, "all-reduce hook")
    assert (found.seconds, found.reference, found.ratio) == (4.0, "all-reduce hook", 3.0)
    assert (found.processor, found.processor_ratio) == (2.0, 2.0)
    assert found.low < found.ratio < found.high


@pytest.mark.slow
def test_hooks_are_measured_in_two_processes():
    found = {way.way: way for way in ddp.compare(("none", "powersgd:rank=4"), steps=2)}
    assert list(found) == ["plain DDP", "all-reduce hook", "fp16 hook", POWERSGD, "none", "powersgd:rank=4"]
    assert found["none"].reference == "all-reduce hook"
    assert found["powersgd:rank=4"].reference == POWERSGD
    assert found[POWERSGD].ratio == found[POWERSGD].processor_ratio == 1
    assert all(way.seconds > 0 for way in found.values())


def test_the_command_writes_its_figures(monkeypatch, tmp_path):
    asked = {}

    def compare(schemes, steps):
        asked.update(schemes=schemes, steps=steps)
        return [HookTime("none", 0.1, "all-reduce hook", 1.25, 1.0, 1.5, 0.05, 1.1)]

    monkeypatch.setattr(ddp, "compare", compare)
    main(["bench", "ddp", "--scheme", "none", "--steps", "3", "--out", str(tmp_path / "figures.csv")])
    assert asked == {"schemes": ("none",), "steps": 3}
    with (tmp_path / "figures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["way"] == "none"
    assert row["ratio"] == "1.25"


def test_a_scheme_that_there_is_not_is_refused_before_anything_is_measured(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "ddp", "--scheme", "gzip"])
    assert stop.value.code == 2
    assert "unknown scheme 'gzip'" in capsys.readouterr().err
