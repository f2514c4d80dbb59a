"""What a scheme does to a gradient, and its bytes: known answers."""

import pytest

from gradwire.runs import read_table
from gradwire.studies.grid import run_study
from gradwire.studies.plan import Study
from gradwire.studies.theory import TheorySettings, theory


def told(scheme, **settings):
    (row,) = theory(
        TheorySettings(**{"model": "mlp:hidden=16", "scheme": scheme, "samples": 1, "whole": True} | settings)
    )
    return row


def test_a_plain_gradient_is_as_long_both_ways_and_without_error():
    row = told("none", clients=3)
    assert (row["error"], row["clients"], row["forwarded"]) == (0, 3, 1)
    assert row["ratio"] == pytest.approx(1, rel=0.05)
    assert row["down"] == pytest.approx(1, rel=0.05)


def test_the_truth_of_a_secure_sum_is_the_mean_of_all_clients():
    found = {bits: told(f"sga:bits={bits}", clients=3)["error"] for bits in (8, 16, 32)}
    assert found[32] < 1e-6 < found[16] < found[8]
    assert told("sga:bits=32", clients=2)["entries"] == told("none")["entries"]


def test_more_clients_choose_more_entries_and_a_secure_sum_has_a_ceiling():
    schemes = ("topk:ratio=0.01,per=model", "ssga:compression=100")
    downs = [[told(scheme, clients=n, model="mlp")["down"] for n in (2, 8)] for scheme in schemes]
    (few, many), (some, bound) = downs
    assert many > 2 * few
    assert bound < 1.2 * some


def test_a_scheme_that_trains_another_network_is_held_against_the_given_one():
    assert told("precode")["ratio"] < 1


def test_local_steps_send_what_they_change():
    assert told("none", local_steps=2)["error"] == 0
    assert told("topk:ratio=0.1", local_steps=2)["error"] == pytest.approx(
        told("topk:ratio=0.1", local_steps=2)["tail"]
    )


def test_a_step_on_a_link_is_a_command_of_studies(tmp_path):
    settings = {"schemes": ["none", "ssga:compression=10.0"], "model": "mlp:hidden=8", "batch": 2, "real": False}
    study = Study.of("mine", {"command": "network", "settings": settings, "grid": {"seed": [0, 1]}})
    rows = list(read_table(run_study(study, tmp_path / "study") / "results.csv"))
    assert {(row["scheme"], row["seed"], float(row["rate"])) for row in rows} == {
        (scheme, seed, rate) for scheme in settings["schemes"] for seed in "01" for rate in (1e8, 1e9, 1e10)
    }
    sent = {row["scheme"]: float(row["bytes"]) for row in rows}
    assert sent["ssga:compression=10.0"] < sent["none"]
