from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError, WireError
from gradwire.secure.ring import BITS, Ring


@st.composite
def rings(draw):
    bits = draw(st.sampled_from(BITS))
    return Ring(bits, draw(st.integers(2, min(200, 2 ** (bits - 1)))))


@given(rings(), st.integers(0, 2**20), st.floats(1e-20, 1e20))
def test_a_sum_is_within_half_a_step_a_client_of_the_real_sum(ring, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    vectors = [(2 * torch.rand(7, generator=generator, dtype=torch.float64) - 1) * scale for _ in range(ring.clients)]
    codes = [ring.encode(vector, scale, rank) for rank, vector in enumerate(vectors)]
    total = np.sum(codes, axis=0, dtype=ring.dtype)
    step = 2 * scale / ring.ceiling
    error = (ring.decode(total, ring.clients, scale).double() - sum(vectors)).abs().max()
    assert error <= ring.clients * (step / 2 + 1e-6 * scale)


def test_a_sum_of_fewer_clients_than_the_ring_is_for_is_theirs():
    ring, values = Ring(32, 5), torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    total = sum(ring.encode(value, 4.0, i) for i, value in enumerate(values))
    torch.testing.assert_close(ring.decode(total, 3, 4.0), values.double().sum(0), atol=1e-6, rtol=0)


@given(rings())
def test_the_edges_are_the_first_and_the_last_code(ring):
    codes = ring.encode(torch.tensor([-3.0, 3.0, -9.0, 9.0]), 3.0)
    assert codes.tolist() == [0, ring.ceiling, 0, ring.ceiling]


@given(rings())
def test_no_sum_wraps_at_the_bound_and_one_past_it_would(ring):
    extremes = ring.encode(torch.ones(1), 1.0).astype(object)
    assert int(extremes[0]) * ring.clients < ring.modulus
    assert (ring.ceiling + 1) * ring.clients > ring.modulus - ring.clients
    assert (ring.ceiling + 2) * ring.clients > ring.modulus


@given(rings(), st.floats(1e-3, 1e3))
def test_the_largest_sum_is_read_back_and_one_past_it_is_refused(ring, scale):
    codes = [ring.encode(torch.full((1,), scale, dtype=torch.float64), scale, rank) for rank in range(ring.clients)]
    total = np.sum(codes, axis=0, dtype=ring.dtype)
    assert ring.decode(total, ring.clients, scale).item() == pytest.approx(ring.clients * scale, rel=1e-6)
    with pytest.raises(WireError, match=f"sum holds {int(total[0]) + 1}; {ring.clients} clients can make"):
        ring.decode(total + 1, ring.clients, scale)


@given(rings(), st.integers(0, 3))
def test_an_aggregate_of_zeros_is_not_biased(ring, offset):
    codes = [ring.encode(torch.zeros(2), 1.0, rank + offset) for rank in range(ring.clients)]
    total = ring.decode(np.sum(codes, axis=0, dtype=ring.dtype), ring.clients, 1.0)
    if ring.clients % 2 == 0:
        assert total.tolist() == [0, 0]
    assert total.sum() == 0


def test_rounding_all_ties_alike_would_be_biased():
    """What the paper's R_U for four clients does when every zero is rounded up."""
    ring = Ring(8, 4)
    assert ring.ceiling == 63
    up = np.full(1, 4 * 32, dtype=ring.dtype)
    assert ring.decode(up, 4, 1.0).item() == pytest.approx(4 / 63)


def test_stochastic_rounding_is_right_on_average_and_never_leaves_the_ring():
    ring, generator = Ring(8, 10), torch.Generator().manual_seed(0)
    codes = ring.encode(torch.full((200_000,), 0.123), 1.0, generator=generator)
    expected = 1.123 * ring.ceiling / 2
    assert set(np.unique(codes)) == {int(expected), int(expected) + 1}
    assert codes.mean() == pytest.approx(expected, abs=5 * 0.5 / 200_000**0.5)
    assert ring.encode(torch.ones(1000), 1.0, generator=generator).max() == ring.ceiling


@given(rings())
def test_a_ring_of_nothing_but_zeros_decodes_to_zeros(ring):
    codes = np.sum([ring.encode(torch.zeros(3), 0.0, rank) for rank in range(ring.clients)], axis=0, dtype=ring.dtype)
    assert ring.decode(codes, ring.clients, 0.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("clients", [3, 5, 7, 100])
def test_codes_are_the_papers_up_to_rounding(bits, clients):
    ring = Ring(bits, clients)
    assert ring.ceiling == Fraction(ring.modulus, clients).__floor__() - 1
    values = torch.linspace(-1, 1, 101, dtype=torch.float64)
    exact = (values.numpy() + 1) / 2 * ring.ceiling
    assert np.abs(ring.encode(values, 1.0) - exact).max() <= 0.5 + 1e-6


def test_what_cannot_be():
    with pytest.raises(GradwireError, match="bits is 12; it must be one of 8, 16, 32"):
        Ring(12, 4)
    with pytest.raises(GradwireError, match="bits is 8: too few for 200 clients, enough for 128 at most"):
        Ring(8, 200)
    ring = Ring(8, 4)
    with pytest.raises(GradwireError, match="largest magnitude is nan"):
        ring.encode(torch.zeros(1), float("nan"))
    with pytest.raises(WireError, match="sum of 5 clients; the ring of 8 bits is shared by 4"):
        ring.decode(np.zeros(1, np.uint8), 5, 1.0)
    with pytest.raises(WireError, match="sum holds 255; 4 clients can make 252 at most"):
        ring.decode(np.full(1, 255, np.uint8), 4, 1.0)
    with pytest.raises(
        WireError, match=r"masked vector of client:1 is uint8 of shape \(3,\); it must be uint8 of shape"
    ):
        ring.check(torch.zeros(3, dtype=torch.uint8), 4, "client:1")
    with pytest.raises(WireError, match="is float32"):
        ring.check(torch.zeros(4), 4, "client:1")
