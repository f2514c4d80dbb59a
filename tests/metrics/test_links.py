from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire.metrics.links import Step

PLAIN = Step("none", 0.1, 0.01, 100_000_000, 2)


def test_time_is_the_sum_of_its_parts():
    assert PLAIN.seconds(8e8, 0.001) == pytest.approx(0.1 + 0.01 + 1.0 + 0.002)


@given(st.floats(0.011, 1), st.integers(1, 99_999_999), st.integers(2, 9), st.floats(0, 0.01))
def test_below_the_crossing_point_and_only_there_a_scheme_is_faster(coding, size, messages, latency):
    scheme = Step("x", 0.1, coding, size, messages)
    crossing = scheme.beats(PLAIN, latency)
    assert scheme.seconds(0.9 * crossing, latency) < PLAIN.seconds(0.9 * crossing, latency)
    assert scheme.seconds(1.1 * crossing, latency) > PLAIN.seconds(1.1 * crossing, latency)


def test_always_and_never():
    assert Step("x", 0.1, 0.005, 10, 2).beats(PLAIN, 0.001) == inf
    assert Step("x", 0.1, 0.02, 100_000_000, 2).beats(PLAIN, 0.001) == 0
    assert PLAIN.beats(PLAIN, 0.001) == 0
