import csv

import pytest
import torch

from gradwire.attacks.inversion import Guess
from gradwire.report import summarise
from gradwire.report.audit.verdict import parts_table
from gradwire.studies import AuditSettings, audit
from gradwire.studies.verdicts import EXACT, PRIOR, REACHED, TOO_SHORT, ordered, verdicts

TRUTH = torch.arange(4.0).view(4, 1, 1, 1, 1)
"""Four victims of one pixel, 0 to 3."""
TARGETS = torch.zeros(4, 1, dtype=torch.int64)


def guess(objectives, value, **others):
    """An answer of these objectives by an attack that minimises `value`."""
    return Guess(torch.zeros_like(TRUTH), TARGETS, torch.tensor(objectives), 1, value=value, **others)


def test_an_objective_worse_than_that_of_the_truth_is_a_search_too_short():
    at_truth = torch.tensor([1.0, 1.0, 1.0, 0.0])
    found = verdicts(guess([1.1, 1.0005, 0.9, 1e-9], lambda _: at_truth), TRUTH, TARGETS, [False] * 4)
    assert found == [TOO_SHORT, PRIOR, PRIOR, TOO_SHORT]


def test_a_success_is_one_whatever_the_objective():
    found = verdicts(guess([9.0] * 4, lambda _: torch.zeros(4)), TRUTH, TARGETS, [True, False, True, False])
    assert found == [REACHED, TOO_SHORT, REACHED, TOO_SHORT]


def test_what_is_proved_is_exact():
    solved = guess([0.0] * 4, lambda _: torch.zeros(4), solved=(True, False, True, False))
    assert verdicts(solved, TRUTH, TARGETS, [True, True, False, False]) == [EXACT, REACHED, EXACT, PRIOR]


def test_an_attack_that_cannot_say_what_it_minimised_has_no_verdict():
    assert verdicts(guess([0.0] * 4, None), TRUTH, TARGETS, [False] * 4) == [""] * 4
    unknown = guess([0.0] * 4, lambda _: torch.full((4,), torch.nan))
    assert verdicts(unknown, TRUTH, TARGETS, [False] * 4) == [""] * 4


def test_the_objective_is_asked_of_the_true_inputs():
    asked = []
    verdicts(guess([0.0] * 4, lambda inputs: asked.append(inputs) or torch.zeros(4)), TRUTH, TARGETS, [False] * 4)
    assert torch.equal(asked[0], TRUTH)


def test_the_truth_is_put_in_the_order_of_the_labels_that_were_inferred():
    truth, targets = torch.tensor([[[3.0], [1.0], [2.0]]]), torch.tensor([[3, 1, 2]])
    assert ordered(truth, targets, torch.tensor([[1, 2, 3]])).flatten().tolist() == [1.0, 2.0, 3.0]
    assert ordered(truth, targets, targets).flatten().tolist() == [3.0, 1.0, 2.0]
    assert ordered(truth, targets, torch.tensor([[1, 1, 3]])).flatten().tolist() == [3.0, 1.0, 2.0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """An audit by the default attack, with a search of hardly any length."""
    settings = AuditSettings(
        data="digits",
        schemes=("none", "signsgd"),
        attacks=("strongest:iterations=24",),
        samples=1,
        knowledge="adaptive",
        mode="eval",
    )
    folder = audit(settings, tmp_path_factory.mktemp("audits") / "run")
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_audit_says_how_far_each_attack_came(rows):
    counted = [row for row in rows if "/" not in row["attack"]]
    assert {row["scheme"] for row in counted} == {"none", "signsgd"}
    assert all(row["verdict"] in (EXACT, REACHED, TOO_SHORT, PRIOR) for row in counted)
    assert all(-1 <= float(row["expected"]) <= 1 for row in counted)


def test_the_parts_of_an_attack_are_no_rows_of_the_reports(rows):
    assert [summary.setting.attack for summary in summarise(rows)] == ["strongest:iterations=24"] * 2
    assert [column.title for column in parts_table(summarise(rows, parts=True)).columns][-1] == "annealed"


def test_the_row_that_counts_is_that_of_one_of_its_parts(rows):
    for row in (row for row in rows if "/" not in row["attack"]):
        parts = [other for other in rows if other["scheme"] == row["scheme"] and other is not row]
        assert {other["attack"] for other in parts} == {"strongest/annealed:iterations=24"}
        assert row["ssim"] in {other["ssim"] for other in parts}
