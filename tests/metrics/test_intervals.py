import numpy as np
import pytest
from scipy.stats import binomtest

from gradwire.metrics.intervals import clopper_pearson, wilson


@pytest.mark.parametrize("trials", [1, 7, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_clopper_pearson_is_scipys(trials, confidence) -> None:
    low, high = clopper_pearson(np.arange(trials + 1), trials, confidence)
    for k in range(trials + 1):
        right = binomtest(k, trials).proportion_ci(confidence, "exact")
        assert (low[k], high[k]) == pytest.approx((right.low, right.high), abs=1e-12)


@pytest.mark.parametrize(("share", "trials"), [(0.0, 10), (0.3, 10), (0.5, 1000), (1.0, 7)])
def test_wilsons_interval_is_that_of_his_quadratic(share, trials) -> None:
    """Its ends are the shares p from which the one that was seen is just z deviations away."""
    for end in wilson(share, trials, 1.96):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(1.96 * (end * (1 - end) / trials) ** 0.5)
    assert wilson(share, trials, 1.96)[0] <= share <= wilson(share, trials, 1.96)[1]
