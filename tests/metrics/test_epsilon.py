import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from gradwire.errors import GradwireError
from gradwire.metrics import best, epsilon_bound, one_run_bound, p_value
from gradwire.metrics.epsilon import distance_bound

RUNS = 2000
ALLOWED = 0.05 * RUNS


def draw(runs: int, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (runs, 2n) that have nothing to do with who is a member, bool (2n,)."""
    return torch.randn(runs, 2 * n, generator=torch.Generator().manual_seed(seed)), torch.arange(2 * n) < n


def counts(scores: torch.Tensor, members: torch.Tensor, threshold: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    called = scores >= threshold
    return (called & members).sum(1).numpy(), (called & ~members).sum(1).numpy()


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_without_leakage_a_threshold_fixed_beforehand_proves_nothing(quantile) -> None:
    scores, members = draw(RUNS, 200, seed=0)
    fixed = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(quantile))
    true, false = counts(scores, members, fixed)
    assert (epsilon_bound(true, 200, false, 200) > 0).sum() <= ALLOWED


def test_without_leakage_a_threshold_from_a_shadow_proves_nothing() -> None:
    scores, members = draw(RUNS, 100, seed=1)
    shadows, _ = draw(RUNS, 100, seed=2)
    limits = torch.tensor([best(row, members) for row in shadows])[:, None]
    true, false = counts(scores, members, limits)
    assert (epsilon_bound(true, 100, false, 100) > 0).sum() <= ALLOWED


def test_without_correction_the_best_threshold_proves_what_is_not_so() -> None:
    """What the tests above would catch: the best of many thresholds, taken for one fixed beforehand."""
    scores, members = draw(400, 1000, seed=4)
    called = [counts(scores, members, limit) for limit in torch.linspace(-3, 3, 30)]
    bounds = [epsilon_bound(true, 1000, false, 1000, confidence=0.8) for true, false in called]
    assert (np.max(bounds, 0) > 0).mean() > 0.2
    corrected = [epsilon_bound(true, 1000, false, 1000, confidence=0.8, tried=30) for true, false in called]
    assert (np.max(corrected, 0) > 0).mean() <= 0.2


def test_randomised_response_is_bounded_by_its_epsilon_and_nearly_reaches_it() -> None:
    epsilon, n, runs = 1.5, 4000, 2000
    truthful = math.exp(epsilon) / (1 + math.exp(epsilon))
    random = np.random.default_rng(0)
    bounds = epsilon_bound(random.binomial(n, truthful, runs), n, random.binomial(n, 1 - truthful, runs), n)
    assert (bounds > epsilon).mean() <= 0.05
    assert np.median(bounds) == pytest.approx(epsilon, abs=0.2)


def test_either_side_of_the_curve_can_prove_it() -> None:
    # Members are found without a false alarm, or non-members cleared without a miss: the same proof, mirrored.
    assert epsilon_bound(50, 100, 0, 100) == pytest.approx(epsilon_bound(100, 100, 50, 100))
    assert epsilon_bound(50, 100, 0, 100) > 1


def test_more_thresholds_or_more_delta_prove_less() -> None:
    plain = epsilon_bound(90, 100, 10, 100)
    assert 0 < epsilon_bound(90, 100, 10, 100, tried=20) < plain
    assert 0 < epsilon_bound(90, 100, 10, 100, delta=0.1) < plain


def test_the_p_value_of_one_run() -> None:
    assert p_value(100, 100, 75, math.log(3)) == pytest.approx(0.5535, abs=5e-5)


@pytest.mark.parametrize(("delta", "epsilon"), [(1e-4, 0.673), (0.0, 0.702)])
def test_the_bound_of_one_run(delta, epsilon) -> None:
    assert one_run_bound(1000, 100, 75, confidence=0.95, delta=delta) == pytest.approx(epsilon, abs=5e-4)


def test_the_bound_is_where_the_p_value_is_what_is_left_of_the_confidence() -> None:
    for delta in (0.0, 1e-5):
        bound = one_run_bound(500, 200, 150, delta=delta)
        assert p_value(500, 200, 150, bound, delta) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("guesses", "right"), [(100, 75), (20, 20), (1000, 560)])
def test_the_distance_that_guesses_prove_is_the_one_at_which_so_many_are_rare(guesses, right) -> None:
    distance = distance_bound(guesses, right, 0.95)
    assert binom.sf(right - 1, guesses, norm.cdf(distance / 2)) == pytest.approx(0.05)
    assert distance_bound(guesses, guesses // 2) == 0


def test_one_run_of_coin_flips_proves_nothing() -> None:
    right = np.random.default_rng(0).binomial(100, 0.5, RUNS)
    bounds = {v: one_run_bound(100, 100, int(v)) for v in set(right.tolist())}
    assert sum(bounds[v] > 0 for v in right.tolist()) <= ALLOWED
    assert one_run_bound(100, 0, 0) == 0


@pytest.mark.parametrize(("canaries", "guesses", "right"), [(10, 11, 3), (10, 5, 6), (10, 5, -1)])
def test_counts_that_cannot_be(canaries, guesses, right) -> None:
    with pytest.raises(GradwireError, match="each must be at most the next"):
        p_value(canaries, guesses, right, 1.0)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(GradwireError, match=r"confidence is 1.0"):
        epsilon_bound(1, 2, 1, 2, confidence=1.0)
    with pytest.raises(GradwireError, match=r"confidence is 0"):
        one_run_bound(10, 10, 10, confidence=0)
