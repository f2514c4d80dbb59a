import numpy as np
import pytest
from scipy.stats import binomtest

from gradwire.metrics.intervals import clopper_pearson


@pytest.mark.parametrize("trials", [1, 7, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_clopper_pearson_is_scipys(trials, confidence) -> None:
    low, high = clopper_pearson(np.arange(trials + 1), trials, confidence)
    for k in range(trials + 1):
        right = binomtest(k, trials).proportion_ci(confidence, "exact")
        assert (low[k], high[k]) == pytest.approx((right.low, right.high), abs=1e-12)
