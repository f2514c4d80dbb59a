import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from gradwire.errors import GradwireError
from gradwire.metrics import roc
from gradwire.metrics.roc import Roc


def curve(inside: list[float], outside: list[float]) -> Roc:
    scores = torch.tensor([*inside, *outside], dtype=torch.float64)
    return roc(scores, torch.arange(len(scores)) < len(inside))


# Few distinct values, so that ties are the rule.
values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(values, values)
def test_the_curve_and_its_area_are_scikit_learns(inside, outside) -> None:
    found = curve(inside, outside)
    truth, scores = [1] * len(inside) + [0] * len(outside), inside + outside
    assert found.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(found.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(found.thresholds, thresholds)


@settings(deadline=None, max_examples=60)
@given(values, values)
def test_a_reversed_score_gives_one_minus_the_area(inside, outside) -> None:
    reverse = curve([-x for x in inside], [-x for x in outside])
    assert reverse.auc == pytest.approx(1 - curve(inside, outside).auc, abs=1e-15)


@settings(deadline=None, max_examples=30)
@given(values, values, st.integers(0, 1000))
def test_the_order_of_examples_does_not_matter(inside, outside, seed) -> None:
    scores = torch.tensor(inside + outside)
    members = torch.arange(len(scores)) < len(inside)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    one, other = roc(scores, members), roc(scores[order], members[order])
    assert torch.equal(one.true, other.true)
    assert torch.equal(one.false, other.false)


def test_a_binary_score_has_the_area_of_its_two_rates() -> None:
    # 70 of 100 members and 20 of 100 non-members are called members: (0.7 + 0.8) / 2.
    assert curve([1.0] * 70 + [0.0] * 30, [1.0] * 20 + [0.0] * 80).auc == 0.75


def test_a_constant_score_tells_nothing() -> None:
    found = curve([5.0] * 10, [5.0] * 1000)
    assert found.auc == 0.5
    assert found.found_at(0.01) == 0


def test_at_a_rate_whoever_ties_with_a_non_member_too_many_is_not_found() -> None:
    found = curve([3.0, 2.0, 2.0, 1.0], [2.0, 1.0] + [0.0] * 98)
    assert [found.found_at(rate) for rate in (0.0, 0.01, 0.02)] == [1, 3, 4]


def test_a_rate_of_one_in_a_hundred_allows_three_of_three_hundred() -> None:
    found = curve([1.0], [2.0, 2.0, 2.0, *[0.0] * 297])
    assert found.found_at(0.01) == 1
    assert found.found_at(0.0099) == 0


def test_infinite_scores_count() -> None:
    assert curve([torch.inf, 0.0], [-torch.inf, 0.0]).auc == 0.875


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        (torch.zeros(3), torch.ones(3, dtype=torch.bool), "no non-member among 3"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.bool), "no member among 3"),
        (torch.tensor([0.0, torch.nan]), torch.tensor([True, False]), "1 of 2 scores are not a number"),
        (torch.zeros(3), torch.tensor([True, False]), r"shapes \(3,\) and \(2,\)"),
        (torch.zeros(2), torch.tensor([1, 0]), "boolean"),
    ],
)
def test_what_no_curve_can_be_made_of(scores, members, message) -> None:
    with pytest.raises(GradwireError, match=message):
        roc(scores, members)


@settings(deadline=None, max_examples=60)
@given(values, values)
def test_the_points_to_draw_lie_on_the_same_lines(inside, outside) -> None:
    found = curve(inside, outside)
    fpr, tpr = found.points()
    assert torch.trapezoid(tpr, fpr).item() == pytest.approx(found.auc, abs=1e-12)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    for rate in found.fpr.tolist():
        assert tpr[fpr <= rate].max() == found.found_at(rate) / found.members


def test_a_long_curve_keeps_most_of_its_points_where_few_are_suspected() -> None:
    random = torch.Generator().manual_seed(0)
    members = torch.rand(20000, generator=random) < 0.5
    found = roc(torch.randn(20000, generator=random) + members, members)
    fpr, tpr = found.points(300)
    assert len(fpr) <= 300
    assert (fpr < 0.01).sum() > 50
    assert torch.trapezoid(tpr, fpr).item() == pytest.approx(found.auc, abs=0.01)
