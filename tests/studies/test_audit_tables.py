"""An audit of a table: from a CSV file to fields that are right, beside what knowing nothing gets."""

import json

import pytest

from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.runs import read_table
from gradwire.studies import AuditSettings, audit
from tests.studies.test_training_tables import written

FAST = ("--scheme", "none", "--scheme", "powersgd:rank=1", "--samples", "3")


def test_a_users_table_is_audited_by_default(tmp_path, capsys):
    """One row follows exactly from the first layer, whatever of it is sent; the report shows the rows themselves."""
    table = written(tmp_path / "people.csv")
    main(["audit", "--data", f"{table}:drop=ill|old|wage", "--target", "class", *FAST, "--out", str(tmp_path / "run")])
    assert "Fields right" in capsys.readouterr().out
    rows = read_table(tmp_path / "run" / "results.csv")
    assert {row["model"] for row in rows} == {"mlp:hidden=100"}
    assert {row["attack"] for row in rows} == {"tableak"}
    assert {row["fields"] for row in rows if row["knowledge"] == "adaptive"} == {"1"}
    assert all(float(row["uninformed"]) < 1 for row in rows)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert settings["domain"]["name"] == "columns"
    assert "ranges" in settings["domain"]["assumed"]
    shown = json.loads((tmp_path / "run" / "examples.json").read_text())
    for original, guess in zip(shown["originals"], shown["none|tableak|adaptive"], strict=True):
        assert [name for name, _ in original[0]] == ["x", "y", "town"]
        assert [(name, right) for name, _, right in guess[0]] == [("x", True), ("y", True), ("town", True)]
        assert guess[0][2][1] == original[0][2][1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "north" in page or "south" in page


@pytest.mark.parametrize(
    ("target", "keys", "loss"), [("wage", "class|ill|old", "mse"), ("ill|old", "class|wage", "bce")]
)
def test_other_losses_are_audited_too(tmp_path, target, keys, loss):
    """Their first layer gives one row exactly, without its targets, under none and PowerSGD of rank 1."""
    data = f"{written(tmp_path / 'people.csv')}:target={target},drop={keys}"
    settings = AuditSettings(data, schemes=("none", "powersgd:rank=1"), attacks=("analytic",), samples=3, loss=loss)
    rows = read_table(audit(settings, tmp_path / "run") / "results.csv")
    assert {row["fields"] for row in rows if row["knowledge"] == "adaptive"} == {"1"}


def test_an_attack_that_uses_no_targets_needs_none(tmp_path):
    data = f"{written(tmp_path / 'people.csv')}:target=wage,drop=class|ill|old"
    settings = AuditSettings(data, schemes=("none",), attacks=("analytic",), samples=2, labels="inferred")
    rows = read_table(audit(settings, tmp_path / "run") / "results.csv")
    assert {row["fields"] for row in rows} == {"1"}


def test_what_a_table_cannot_be_attacked_by_is_refused_in_one_line(tmp_path):
    data = f"{written(tmp_path / 'people.csv')}:target=wage,drop=class|ill|old"
    for attack, message in {"iga": "tv", "sentences": "text"}.items():
        with pytest.raises(GradwireError, match=message):
            audit(AuditSettings(data, schemes=("none",), attacks=(attack,), samples=1), tmp_path / attack)
    settings = AuditSettings(data, schemes=("none",), attacks=("iga:tv=0,iterations=2",), labels="inferred")
    with pytest.raises(GradwireError, match="targets of the loss 'mse' cannot be inferred"):
        audit(settings, tmp_path / "inferred")
