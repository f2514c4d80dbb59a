import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from gradwire.errors import GradwireError
from gradwire.metrics import Scored, best, best_by_class, membership
from gradwire.metrics.clusters import variance
from gradwire.metrics.membership import _placements

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
    assert accuracy_of(scores, members, limits[labels]) == 1
    assert accuracy_of(scores, members, best(scores, members)) == 0.75


def accuracy_of(scores, members, limits) -> float:
    return membership(Scored.of(scores, members, limits=limits)).balanced_accuracy.value


def test_all_figures_of_one_attack() -> None:
    scores, members = sides([3.0] * 20 + [1.0] * 80, [3.0] * 1 + [1.0] * 99 + [0.0] * 100)
    found = membership(Scored.of(scores, members, limits=2.0))
    assert (found.members, found.nonmembers) == (100, 200)
    assert found.balanced_accuracy.value == pytest.approx((0.2 + 0.995) / 2)
    assert found.auc.value == pytest.approx((20 * (199.5) + 80 * (100 + 49.5)) / (100 * 200))
    at = found.tpr_at[1e-2].figure
    assert at is not None
    assert at.value == 0.2
    for figure in (found.balanced_accuracy, found.auc, at):
        assert figure.low < figure.value < figure.high


def test_a_rate_needs_as_many_non_members_as_it_is_rare() -> None:
    scores, members = sides([float(x) for x in range(100)], [float(x) for x in range(999)])
    found = membership(Scored.of(scores, members)).tpr_at[1e-3]
    assert found.figure is None
    assert found.why == "a false-positive rate of 0.001 needs 1,000 non-members; there are 999"
    scores, members = sides([float(x) for x in range(100)], [float(x) for x in range(1000)])
    assert membership(Scored.of(scores, members)).tpr_at[1e-3].figure is not None


def test_models_whose_scores_lie_apart_have_no_threshold_for_all() -> None:
    random = torch.Generator().manual_seed(0)
    scores, members = torch.randn(20, 500, generator=random), torch.rand(20, 500, generator=random) < 0.5
    assert membership(Scored.of(scores, members)).tpr_at[1e-2].figure is not None
    apart = scores + 3 * torch.randn(20, 1, generator=random)
    assert "lies between models" in membership(Scored.of(apart, members)).tpr_at[1e-2].why


def test_the_area_and_its_variance_are_delongs_for_one_model() -> None:
    """Against the formula of DeLong et al. 1988, written out."""
    random = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(30, generator=random) + 1, torch.randn(40, generator=random)
    beats = (inside[:, None] > outside).double()
    area = float(beats.mean())
    spread = float(beats.mean(1).var() / 30 + beats.mean(0).var() / 40)
    scored = Scored.of(*sides(inside.tolist(), outside.tolist()))
    value, influence = _placements(scored)
    assert value == pytest.approx(area)
    assert variance(influence, np.zeros(1, dtype=int)).value == pytest.approx(spread, rel=0.05)


def test_copies_of_a_model_tell_nothing_new() -> None:
    """Twenty rows that say the same of the same examples have the interval of one; independent ones have a narrower."""
    random = torch.Generator().manual_seed(0)
    members = torch.rand(1, 300, generator=random) < 0.5
    one = torch.randn(1, 300, generator=random) + members
    alone, copied = (membership(Scored.of(one.expand(n, -1), members.expand(n, -1))).auc for n in (1, 20))
    assert copied.high - copied.low >= 0.95 * (alone.high - alone.low)
    fresh = torch.randn(20, 300, generator=random) + members
    independent = membership(Scored.of(fresh, members.expand(20, -1))).auc
    assert independent.high - independent.low < 0.7 * (alone.high - alone.low)


def test_copies_of_a_model_find_no_member_more_surely_at_a_low_rate() -> None:
    random = torch.Generator().manual_seed(0)
    members = torch.rand(1, 2000, generator=random) < 0.5
    one = torch.randn(1, 2000, generator=random) + 2 * members
    wide = []
    for n in (1, 20):
        found = membership(Scored.of(one.expand(n, -1), members.expand(n, -1))).tpr_at[1e-2].figure
        assert found is not None
        wide.append(found.high - found.low)
    assert wide[1] >= 0.8 * wide[0]


def test_the_variance_of_clusters_is_that_between_both_less_that_of_pairs() -> None:
    drawn = np.random.default_rng(0)
    influence = drawn.normal(size=(6, 9)) + drawn.normal(size=(6, 1)) + drawn.normal(size=9)
    examples, models = 9 / 8 * (influence.sum(0) ** 2).sum(), 6 / 5 * (influence.sum(1) ** 2).sum()
    found = variance(influence, np.arange(6))
    assert found.value == pytest.approx(examples + models - (influence**2).sum())
    assert found.independent == pytest.approx((influence**2).sum())


def test_a_perfect_attack_on_few_examples_is_not_certain() -> None:
    found = membership(Scored.of(*sides([1.0] * 5, [0.0] * 5), limits=0.5))
    for figure in (found.auc, found.balanced_accuracy):
        assert figure.value == figure.high == 1
        assert figure.low < 0.8


@pytest.mark.parametrize(
    ("scores", "members", "says"),
    [
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool), "shapes"),
        (torch.tensor([0.0, torch.nan]), torch.tensor([True, False]), "1 of 2 scores are not a number"),
        (torch.zeros(3), torch.ones(3, dtype=torch.bool), "there is no non-member among 3 candidates"),
    ],
)
def test_scores_that_are_none(scores, members, says) -> None:
    with pytest.raises(GradwireError, match=says):
        Scored.of(scores, members)


def test_pairs_that_are_not_judged_do_not_count() -> None:
    scores, members = torch.tensor([[3.0, 2.0, 1.0, torch.nan]]), torch.tensor([[True, False, False, True]])
    assert Scored.of(scores, members, torch.tensor([[True, True, True, False]])).curve.auc == 1
    with pytest.raises(GradwireError, match="1 of 4 scores are not a number"):
        Scored.of(scores, members)


def test_a_class_without_members_is_named() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    with pytest.raises(GradwireError, match="class 1 has no non-members among its 1 candidates"):
        best_by_class(scores, members, torch.tensor([0, 1, 0, 0]))


def test_a_candidate_without_a_threshold_is_counted() -> None:
    scores, members = sides([2.0, 12.0], [0.0, 10.0])
    with pytest.raises(GradwireError, match="1 of 4 thresholds are not a number"):
        Scored.of(scores, members, limits=torch.tensor([1.0, torch.nan, 1.0, 1.0]))
