"""Intervals of differences against textbooks, and how often they hold the truth."""

from math import inf

import numpy as np
import pytest

from gradwire.metrics.differences import bootstrap, newcombe, share, welch


def test_welchs_is_that_of_students_sleep_data():
    """Biometrika 1908; R's t.test gives −3.3654832 to 0.2054832."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    other = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert welch(one, other) == pytest.approx((-1.58, -3.3654832, 0.2054832))
    assert welch(other)[1:] == pytest.approx((0.8976775, 3.7623225), abs=1e-6)


def test_newcombes_is_that_of_his_paper():
    """Statistics in Medicine 17, 1998, table II, method 10: 56/70 − 48/80 is 0.0524 to 0.3339."""
    found = newcombe(share([1] * 56 + [0] * 14), share([1] * 48 + [0] * 32))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_too_few_values_tell_nothing():
    assert welch([1.0], [2.0, 3.0])[1:] == (-inf, inf)
    assert bootstrap(dict(enumerate(range(7))))[1:] == (-inf, inf)


def test_pairs_are_drawn_together():
    random = np.random.default_rng(0)
    base = random.normal(0, 10, 10)
    one, other = dict(enumerate(base)), dict(enumerate(base + 1 + random.normal(0, 0.1, 10)))
    assert bootstrap(one, other).high < -0.8
    apart = {-unit - 1: value for unit, value in other.items()}
    assert bootstrap(one, apart).low < -5


@pytest.mark.parametrize("size", [8, 10, 30])
def test_the_bootstraps_interval_holds_the_mean_of_few_skewed_values(size):
    random, held = np.random.default_rng(3), 0
    for _ in range(400):
        figure = bootstrap(dict(enumerate(random.beta(2, 5, size))))
        held += figure.low <= 2 / 7 <= figure.high
    assert held / 400 > 0.92
