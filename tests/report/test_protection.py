import pytest

from gradwire.report.figures import THEMES, render
from gradwire.report.formats import times
from gradwire.report.study.protection import protection_figure, protection_table, protections


@pytest.fixture
def found(rows, training_rows):
    """One audited scheme of the two that were trained, and one audited scheme that was not trained."""
    trained = [{**row, "label": row["scheme"]} for row in training_rows]
    audited = [{**row, "label": row["scheme"]} for row in rows if row["scheme"] != "none"]
    return protections(trained, audited)


def test_trainings_are_joined_with_the_audits_filed_beside_them(found):
    (only,) = found
    assert only.name == "powersgd:rank=4"
    assert only.accuracy == pytest.approx(0.75)
    assert only.leaked == {"naive": pytest.approx(0.2), "adaptive": pytest.approx(0.7)}


def test_without_an_audit_there_is_nothing_to_say(training_rows):
    assert protections([{**row, "label": row["scheme"]} for row in training_rows], []) == []


def test_the_table(found):
    (row,) = protection_table(found).rows
    assert row == ("powersgd:rank=4", "38×", "75.0 ± 7.1 %", "0.20", "0.70")


def test_the_figure_is_drawn_alike_twice(found):
    drawn = [render(protection_figure(found, theme), "svg") for theme in (THEMES["light"], THEMES["light"])]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(b"<?xml")


def test_a_scheme_that_sends_more_has_a_factor_below_one():
    factors = {0.0288: "0.029×", 0.577: "0.58×", 0.9969: "1×", 1: "1×", 4.02: "4×", 38: "38×"}
    assert {value: times(value) for value in factors} == factors
