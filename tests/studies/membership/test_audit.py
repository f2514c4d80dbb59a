"""Auditing in one run: a model that learns its canaries by heart is caught, one that is trained privately is not."""

import csv

import pytest

from gradwire.studies.membership import MembershipSettings, run_membership


def audited(tmp_path, **options):
    settings = MembershipSettings(
        data="digits:train=500", model="mlp", shadows=1, attacks=(), canaries="mislabelled:200", clients=1, **options
    )
    folder = run_membership(settings, tmp_path / "run")
    with (folder / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def test_a_model_that_knows_its_canaries_by_heart_proves_a_large_epsilon(tmp_path):
    row = audited(tmp_path, epochs=40, lr=0.05)
    assert float(row["balanced_accuracy"]) > 0.95
    assert float(row["epsilon"]) > 2
    assert row["epsilon_claimed"] == ""


def test_a_private_model_proves_less_than_it_claims(tmp_path):
    pytest.importorskip("dp_accounting")
    row = audited(tmp_path, epochs=2, lr=0.2, schemes=("dpsgd:clip=1.0,noise=1.5",))
    assert 0 < float(row["epsilon_claimed"]) <= 8
    assert float(row["epsilon"]) < float(row["epsilon_claimed"])


def test_an_audit_says_how_many_canaries_were_in_and_guesses_half_of_them(tmp_path):
    row = audited(tmp_path, epochs=1, lr=1e-9)
    assert int(row["members"]) + int(row["nonmembers"]) == 200
    assert (100 * float(row["balanced_accuracy"])).is_integer()
    assert row["attack"] == "one-run:mislabelled:200"
