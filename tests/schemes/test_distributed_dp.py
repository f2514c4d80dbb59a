"""Noise that clients add together: its distribution, what the sum keeps, and what it costs by the accountants."""

from dataclasses import replace
from math import inf, sqrt

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting import rdp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm, skellam

from gradwire.errors import GradwireError
from gradwire.schemes import parse
from gradwire.schemes.distributed_dp import ORDERS, DistributedNoise, epsilon, spent
from gradwire.secure.discrete_noise import draw
from gradwire.secure.rotation import hadamard, padded, signs
from tests.schemes.rounds import Cluster, flat, random_update

NOISE = DistributedNoise("gaussian", 1.0, 1.0, 32, 10, 1000)
kinds = pytest.mark.parametrize("kind", ["gaussian", "skellam"])


@kinds
@pytest.mark.parametrize("deviation", [1.0, 2.5])
def test_numbers_are_drawn_as_often_as_the_distribution_says(kind, deviation):
    drawn, numbers = draw(kind, deviation, 400_000), np.arange(-4, 5)
    weights = np.exp(-(np.arange(-60, 61) ** 2) / (2 * deviation**2))
    of = {
        "gaussian": np.exp(-(numbers**2) / (2 * deviation**2)) / weights.sum(),
        "skellam": skellam.pmf(numbers, deviation**2 / 2, deviation**2 / 2),
    }[kind]
    counts, expected = np.array([(drawn == k).sum() for k in numbers]), of * len(drawn)
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), len(numbers)) > 1e-4


@kinds
def test_no_two_draws_are_alike_and_wide_ones_are_normal(kind):
    first, second = (draw(kind, 1000.0, 200_000) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    for z in (-2, -1, 0, 1, 2):
        assert (first < 1000 * z).mean() == pytest.approx(norm.cdf(z), abs=5e-3)


@given(st.integers(1, 300))
def test_a_rotation_is_undone_by_itself_and_spreads_what_was_one_entry(size):
    d = padded(size)
    assert size <= d < 2 * size or d == 1
    values = torch.zeros(d, dtype=torch.float64)
    values[size // 2] = 3.0
    turned = hadamard(values * signs(d, torch.Generator().manual_seed(size)))
    torch.testing.assert_close(turned.abs(), torch.full((d,), 3 / sqrt(d), dtype=torch.float64))
    torch.testing.assert_close(hadamard(hadamard(values)), values)


@kinds
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("threshold", ["", ",threshold=5"])
def test_the_mean_is_that_of_clipped_updates_with_the_noise_that_was_asked_for(kind, bits, threshold):
    updates = [random_update(i, {"w": (80, 50)}) for i in range(6)]
    clipped = sum(flat(u) * min(1.0, 5.0 / float(flat(u).norm())) for u in updates) / 6
    cluster = Cluster.of(f"sga:dp=2.0,clip=5.0,noise={kind},bits={bits}{threshold}", updates)
    aggregate, seen = cluster.run(updates)
    noise = flat(aggregate) - clipped
    assert float(noise.std()) == pytest.approx(cluster.scheme.deviation(seen.round), rel=0.06)
    assert abs(float(noise.mean())) < 4 * 2.0 * 5.0 / 6 / sqrt(4000)
    assert "offer" not in seen.uploads
    assert float(flat(cluster.scheme.decode(seen)).sub(flat(aggregate)).abs().max()) == 0


@kinds
def test_epsilon_is_that_of_central_noise_where_steps_are_fine(kind):
    """Both mechanisms come near to the Gaussian one, with the noise of the honest alone."""
    noise, state = replace(NOISE, kind=kind), {}
    for _ in range(3):
        state = {**state, **spent(state, noise, 10, 2)}
    found = epsilon({"client:0": state}, 1e-5)
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(sqrt(0.8)), 3)
    whole = [order for order in ORDERS if kind == "gaussian" or order == int(order)]
    central = rdp.RdpAccountant(orders=whole).compose(event).get_epsilon(1e-5)
    assert central <= found <= 1.02 * central
    assert state["dp/sums"].tolist() == [3, 10]


def test_dropouts_and_colluders_cost_noise():
    def after(contributors, colluders):
        return epsilon({"client:0": spent({}, NOISE, contributors, colluders)}, 1e-5)

    assert after(10, 0) < after(8, 0) == after(10, 2) < after(6, 2)
    assert after(2, 2) == inf


@kinds
def test_coarse_steps_cost_more(kind):
    """Known answers of the theorems, worked out by hand for d = 4 and 2 clients with noise of 1.5 steps."""
    noise = DistributedNoise(kind, 1.0, 1.0, 8, 2, 4)
    s, each = noise.scale, noise.deviation
    assert each == pytest.approx(s / sqrt(2))
    likely = sqrt(s**2 + 1 + (s + 1))
    assert noise.sensitivity == pytest.approx(min(likely, s + 2))
    two, order = noise.sensitivity, 8
    if kind == "gaussian":
        tau = 10 * np.exp(-2 * np.pi**2 * each**2 / 2)
        due = min(sqrt(two**2 / (2 * each**2) + 2 * tau), two / sqrt(2) / each + 2 * tau) ** 2 / 2 * order
    else:
        mu, one = 2 * each**2, min(two**2, 2 * two)
        due = order * two**2 / (2 * mu) + min((15 * two**2 + 6 * one) / (4 * mu**2), 3 * one / (2 * mu))
    assert noise.renyi(2)[ORDERS.index(order)] == pytest.approx(due)


def test_sums_leave_the_ring_by_chance_alone():
    """All clients alike is the worst case: the sum's entries still fit, so that nothing wraps."""
    updates = [random_update(1, {"w": (4000,)})] * 10
    cluster = Cluster.of("sga:dp=0.5,bits=16,clip=1.0", updates)
    aggregate, _ = cluster.run(updates)
    mean = flat(updates[0]) / flat(updates[0]).norm()
    assert float((flat(aggregate) - mean).std()) == pytest.approx(0.05, rel=0.1)


def test_the_report_tells_epsilon_and_what_dropouts_cost():
    updates = [random_update(i) for i in range(6)]
    cluster = Cluster.of("sga:dp=1.0", updates)
    cluster.run(updates)
    cluster.run(updates)
    told = " ".join(cluster.scheme.notes(cluster.private))
    assert "at δ = 1e-05 under zero-out of one client (2 sums, if 2 clients tell the server their noise; RDP)" in told
    assert "at the fewest 6 of 6 clients stayed: the noise was 82% of what dp says, at least" in told
    (promised,) = cluster.scheme.guarantees(cluster.private)
    found, delta = promised.epsilon, promised.delta
    assert f"ε = {found:.3g}" in told
    assert delta == 1e-5


def test_what_would_not_be_private_is_refused():
    with pytest.raises(GradwireError, match=r"ssga: dp is 1.0; the entries that clients choose tell of them; it needs"):
        parse("ssga:dp=1.0")
    with pytest.raises(GradwireError, match="dp stands with sga or ssga alone"):
        parse("powersgd:rank=1+sga:dp=1.0")
    with pytest.raises(GradwireError, match=r"sga: dp is 0.0; it must be positive"):
        parse("sga:dp=0")
    updates = [random_update(i) for i in range(100)]
    with pytest.raises(GradwireError, match=r"bits is 8: 100 clients' noise in 472 entries would be .* take more bits"):
        Cluster.of("sga:dp=0.1,bits=8", updates).run(updates)
