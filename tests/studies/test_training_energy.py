import csv

import pytest

from gradwire.studies import run_training, training
from gradwire.training import TrainSettings


@pytest.fixture
def counter(monkeypatch):
    """A meter that counts a kilowatt-hour each time it is read; set `tells` to False for a machine without one."""

    class Counter:
        tells = True

        def __init__(self, device):
            self.read = 0.0

        def kwh(self):
            self.read += 1
            return self.read if self.tells else None

    monkeypatch.setattr(training, "Meter", Counter)
    return Counter


def energies(tmp_path, rounds, resume=False):
    folder = tmp_path / "run"
    where = {"resume": folder} if resume else {"out": folder}
    run_training("digits", "mlp", TrainSettings(rounds=rounds, batch_size=4), eval_every=2, **where)
    with (folder / "results.csv").open(newline="") as file:
        return [row["energy_kwh"] for row in csv.DictReader(file)]


def test_energy_is_counted_from_the_start_through_a_resumed_run(tmp_path, counter):
    assert energies(tmp_path, 4) == ["1", "2"]
    assert energies(tmp_path, 6, resume=True) == ["1", "2", "3"]


def test_the_column_stays_empty_where_the_machine_does_not_tell(tmp_path, counter):
    counter.tells = False
    assert energies(tmp_path, 2) == [""]


def test_a_gap_in_what_was_told_is_not_filled(tmp_path, counter):
    counter.tells = False
    energies(tmp_path, 2)
    counter.tells = True
    assert energies(tmp_path, 4, resume=True) == ["", ""]
