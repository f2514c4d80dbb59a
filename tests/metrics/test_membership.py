import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from gradwire.errors import GradwireError
from gradwire.metrics import best, best_by_class, membership

values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


def sides(inside: list[float], outside: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.tensor(inside + outside, dtype=torch.float64)
    return scores, torch.arange(len(scores)) < len(inside)


@settings(deadline=None, max_examples=60)
@given(values, values)
def test_no_threshold_is_better_than_the_best(inside, outside) -> None:
    scores, members = sides(inside, outside)
    truth = members.numpy()

    def accuracy(threshold: float) -> float:
        return balanced_accuracy_score(truth, (scores >= threshold).numpy())

    found = accuracy(best(scores, members))
    assert found == pytest.approx(max(accuracy(value) for value in [*scores.tolist(), torch.inf]))


def test_the_threshold_lies_between_scores() -> None:
    assert best(*sides([2.0, 3.0], [0.0, 1.0])) == 1.5
    assert best(*sides([torch.inf, 3.0], [-torch.inf, -torch.inf])) == 3.0


def test_classes_have_their_own_thresholds() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    labels = torch.tensor([0, 2, 0, 2])
    limits = best_by_class(scores, members, labels)
    assert limits[[0, 2]].tolist() == [1.0, 11.0]
    assert limits[1].isnan()
    assert membership(scores, members, limits[labels], fixed=False).balanced_accuracy.value == 1
    assert membership(scores, members, best(scores, members), fixed=False).balanced_accuracy.value == 0.75


def test_a_curve_is_relative_to_thresholds_where_it_is_asked_to_be() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    limits = torch.tensor([1.0, 11.0, 1.0, 11.0])
    assert membership(scores, members, limits, fixed=False, relative=True).auc.value == 1
    assert membership(scores, members, limits, fixed=False).auc.value == 0.75


def test_all_figures_of_one_attack() -> None:
    scores, members = sides([3.0] * 20 + [1.0] * 80, [3.0] * 1 + [1.0] * 99 + [0.0] * 100)
    found = membership(scores, members, 2.0, fixed=True)
    assert (found.members, found.nonmembers) == (100, 200)
    assert (found.tpr.value, found.fpr.value) == (0.2, 0.005)
    assert found.balanced_accuracy.value == pytest.approx((0.2 + 0.995) / 2)
    assert {rate: figure.value for rate, figure in found.tpr_at.items()} == {1e-2: 0.2, 1e-3: 0.0}
    assert found.auc.value == pytest.approx((20 * (199.5) + 80 * (100 + 49.5)) / (100 * 200))
    for figure in (found.balanced_accuracy, found.auc, *found.tpr_at.values(), found.tpr, found.fpr):
        assert figure.low <= figure.value <= figure.high
    assert found.epsilon is not None
    assert found.epsilon > 1


def test_a_threshold_chosen_on_the_answers_proves_no_epsilon() -> None:
    scores, members = sides([1.0] * 100, [0.0] * 100)
    assert membership(scores, members, 0.5, fixed=False).epsilon is None


def test_a_class_without_members_is_named() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    with pytest.raises(GradwireError, match="class 1 has no non-members among its 1 candidates"):
        best_by_class(scores, members, torch.tensor([0, 1, 0, 0]))


def test_a_candidate_without_a_threshold_is_counted() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    with pytest.raises(GradwireError, match="1 of 4 candidates have no threshold"):
        membership(scores, members, torch.tensor([1.0, torch.nan, 1.0, 1.0]), fixed=True)
