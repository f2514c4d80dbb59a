import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from gradwire.metrics import intervals, roc
from gradwire.metrics.intervals import Figure, auc, clopper_pearson, mean_of_rates, rate


@pytest.mark.parametrize("trials", [1, 7, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_clopper_pearson_is_scipys(trials, confidence) -> None:
    low, high = clopper_pearson(np.arange(trials + 1), trials, confidence)
    for k in range(trials + 1):
        right = binomtest(k, trials).proportion_ci(confidence, "exact")
        assert (low[k], high[k]) == pytest.approx((right.low, right.high), abs=1e-12)


@pytest.mark.parametrize(("n", "first", "second"), [(40, 0.5, 0.5), (200, 0.02, 0.99), (1000, 0.6, 0.55)])
def test_the_mean_of_two_rates_lies_in_its_interval_as_often_as_promised(n, first, second) -> None:
    random, runs = np.random.default_rng(0), 2000
    counts = zip(random.binomial(n, first, runs), random.binomial(n, second, runs), strict=True)
    found = [mean_of_rates(rate(int(a), n), rate(int(b), n)) for a, b in counts]
    held = np.mean([figure.low <= (first + second) / 2 <= figure.high for figure in found])
    # Three standard deviations of 2,000 runs at 95 %.
    assert held >= 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5


def scored(n: int, shift: float, seed: int, levels: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    members = torch.arange(n) < n // 2
    scores = torch.randn(n, generator=random) + shift * members
    return (scores if levels is None else (scores * levels).round()), members


@pytest.mark.parametrize("levels", [None, 1])
def test_the_bootstrap_is_as_wide_as_the_area_varies(levels) -> None:
    areas, widths = [], []
    for seed in range(200):
        scores, members = scored(200, 0.5, seed, levels)
        curve = roc(scores, members)
        areas.append(curve.auc)
        if seed < 10:
            figure = auc(curve, resamples=500, seed=seed)
            assert figure.low < figure.value < figure.high
            widths.append(figure.high - figure.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(areas), rel=0.15)


def test_the_bootstrap_draws_what_plain_resampling_draws() -> None:
    scores, members = scored(60, 1.0, 0, levels=2)
    figure = auc(roc(scores, members), resamples=4000)
    random = torch.Generator().manual_seed(1)
    inside, outside = scores[members], scores[~members]
    areas = []
    for _ in range(2000):
        sides = [x[torch.randint(len(x), x.shape, generator=random)] for x in (inside, outside)]
        areas.append(roc(torch.cat(sides), torch.arange(60) < 30).auc)
    assert (figure.low, figure.high) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.012)


def test_a_curve_of_many_steps_has_the_interval_of_all_of_them(monkeypatch) -> None:
    scores, members = scored(900, 0.5, 0)
    curve = roc(scores, members)
    every = auc(curve, resamples=2000)
    monkeypatch.setattr(intervals, "BINS", 100)
    binned = auc(curve, resamples=2000)
    assert binned.value == every.value
    assert (binned.low, binned.high) == pytest.approx((every.low, every.high), abs=0.003)
    assert binned != every


def test_the_same_seed_gives_the_same_interval() -> None:
    scores, members = scored(500, 0.3, 0)
    curve = roc(scores, members)
    assert auc(curve, seed=1) == auc(curve, seed=1)
    assert auc(curve, seed=1) != auc(curve, seed=2)


def test_where_all_members_score_above_the_interval_is_a_point() -> None:
    scores, members = torch.arange(10.0), torch.arange(10) >= 5
    assert auc(roc(scores, members)) == Figure(1.0, 1.0, 1.0)
