from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.metrics.links import Step, crossing, rate_of

PLAIN = Step("none", 0.1, 0.01, 100_000_000, 2)


def test_time_is_the_sum_of_its_parts():
    assert PLAIN.seconds(8e8, 0.001) == pytest.approx(0.1 + 0.01 + 1.0 + 0.002)


@given(st.floats(0.011, 1), st.integers(1, 99_999_999), st.integers(2, 9), st.floats(0, 0.01))
def test_below_the_crossing_point_and_only_there_a_scheme_is_faster(coding, size, messages, latency):
    scheme = Step("x", 0.1, coding, size, messages)
    crossing = scheme.beats(PLAIN, latency)
    assert scheme.seconds(0.9 * crossing, latency) < PLAIN.seconds(0.9 * crossing, latency)
    assert scheme.seconds(1.1 * crossing, latency) > PLAIN.seconds(1.1 * crossing, latency)


def test_measured_steps_cross_where_their_lines_in_one_over_the_rate_do():
    rates = (1e8, 1e9, 1e10)
    plain, sparse = ({rate: base + size / rate for rate in rates} for base, size in ((1.0, 1e9), (1.5, 1e8)))
    assert crossing(plain, sparse) == pytest.approx(9e8 / 0.5)
    assert crossing(plain, {rate: seconds - 0.1 for rate, seconds in plain.items()}) == inf
    assert crossing(plain, plain) == 0
    assert crossing(plain, {**sparse, 1e8: 99.0}) == 0  # nothing is claimed of links slower than one on which it lost


def test_always_and_never():
    assert Step("x", 0.1, 0.005, 10, 2).beats(PLAIN, 0.001) == inf
    assert Step("x", 0.1, 0.02, 100_000_000, 2).beats(PLAIN, 0.001) == 0
    assert PLAIN.beats(PLAIN, 0.001) == 0


@pytest.mark.parametrize(
    ("link", "rate"),
    [
        *[("100mbps", 1e8), ("1gbps", 1e9), ("10MB/s", 8e7), ("2.5 Gbit/s", 2.5e9), ("56kbps", 56e3)],
        *[("9600bps", 9600), ("1 Mb/s", 1e6), ("1MBps", 8e6), (".5gbps", 5e8)],
    ],
)
def test_a_link_is_bits_unless_it_says_bytes(link, rate):
    assert rate_of(link) == pytest.approx(rate)


@pytest.mark.parametrize("link", ["", "fast", "100", "mbps", "0mbps", "-1gbps", "1gbps!", "100 parsecs/s", "1e3mbps"])
def test_what_is_no_link_is_refused_in_one_line(link):
    with pytest.raises(GradwireError, match=r"^link is .*; it must be a speed such as 100mbps, 1gbps or 10MB/s$"):
        rate_of(link)
