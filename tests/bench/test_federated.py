"""The benchmark of federated rounds compares equal work; no test asks how fast this machine is."""

import csv
import sys

import pytest

from gradwire.bench import federated
from gradwire.bench.federated import FederatedSetting, paces
from gradwire.bench.others import run
from gradwire.cli import main
from gradwire.errors import GradwireError

SMALL = FederatedSetting("digits", "mlp", 1000, 10, 3, 10)


def test_the_loop_and_gradwire_do_equal_work():
    loop, ours, half = paces(SMALL, 2, {})
    assert (loop.by, ours.by, half.by) == ("plain loop", "gradwire", "gradwire, bf16")
    assert half.test_loss == pytest.approx(loop.test_loss, rel=0.02)
    assert "in bfloat16" in half.how
    assert loop.test_loss == pytest.approx(ours.test_loss, rel=1e-5)
    assert ours.times_loop == pytest.approx(ours.rounds_per_second / loop.rounds_per_second)
    assert "clients train " in ours.how


def test_the_command_prints_and_writes_its_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(federated.SETTINGS, "small", SMALL)
    main(["bench", "federated", "--setting", "small", "--rounds", "2", "--out", str(tmp_path / "table.csv")])
    assert "flower is left out" in capsys.readouterr().out
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row["by"] for row in csv.DictReader(file)] == ["plain loop", "gradwire", "gradwire, bf16"]


@pytest.mark.parametrize(
    ("setting", "rounds", "others", "message"),
    [
        (SMALL, 1, {}, "rounds is 1; it must be at least 2"),
        (
            FederatedSetting("digits", "mlp", 1001, 10, 3, 10),
            2,
            {},
            "1001 examples do not give 10 clients full batches",
        ),
        (SMALL, 2, {"pfl": "/nowhere/python"}, "--pfl /nowhere/python cannot be run: .*No such file"),
        (SMALL, 2, {"pfl": sys.executable}, "--pfl .* fails: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_is_refused(setting, rounds, others, message):
    with pytest.raises(GradwireError, match=message):
        list(paces(setting, rounds, others))


def test_another_python_is_not_led_to_this_ones_packages(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/this/ones")
    monkeypatch.setenv("PYTHONSTARTUP", "/this/ones.py")
    names = "[value for name, value in os.environ.items() if name.startswith('PYTHON')]"
    assert "/this/ones" not in run("--pfl", sys.executable, "-c", f"import os; print({names})")


def test_an_unknown_setting_is_refused_before_anything_is_measured(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "federated", "--setting", "vgg"])
    assert "unknown setting 'vgg'; known: lenet, mlp, cnn" in capsys.readouterr().err
