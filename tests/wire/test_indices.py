import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.wire.indices import code_size, decode, encode


@st.composite
def positions(draw):
    size = draw(st.one_of(st.integers(1, 200), st.integers(1, 2**31)))
    chosen = draw(st.sets(st.integers(0, size - 1), max_size=60))
    return torch.tensor(sorted(chosen), dtype=torch.int64), size


@given(positions())
def test_decode_inverts_encode(case):
    indices, size = case
    code = encode(indices, size)
    assert code.numel() == code_size(len(indices), size)
    assert torch.equal(decode(code, len(indices), size), indices)


@given(positions())
def test_at_most_four_bytes_an_index(case):
    indices, size = case
    assert encode(indices, size).numel() <= 4 * len(indices)


@given(st.integers(1, 2**31), st.integers(1, 2**31))
def test_the_bound_of_four_bytes_holds_for_every_count(a, b):
    count, size = min(a, b), max(a, b)
    assert code_size(count, size) <= 4 * count


@pytest.mark.parametrize("density", [1, 0.5, 0.1, 0.01, 0.001])
def test_within_a_bit_an_index_of_the_information_in_a_set(density):
    size = 1_000_000
    count = int(size * density)
    information = (math.lgamma(size + 1) - math.lgamma(count + 1) - math.lgamma(size - count + 1)) / math.log(2)
    assert 8 * code_size(count, size) <= information + (2 if density == 1 else 1) * count + 16


@pytest.mark.parametrize("indices", [[3, 3], [4, 2], [-1, 2], [0, 10]])
def test_what_is_not_strictly_ascending_below_size_is_not_coded(indices):
    with pytest.raises(WireError, match="ascend strictly"):
        encode(torch.tensor(indices), 10)


def test_codes_that_do_not_fit_are_refused():
    code = encode(torch.tensor([1, 5, 9]), 10)
    with pytest.raises(WireError, match="3 positions below 100 take"):
        decode(code, 3, 100)
    with pytest.raises(WireError, match="11 positions below 10 take no"):
        decode(code, 11, 10)
    with pytest.raises(WireError, match="0 positions; 3 were announced"):
        decode(torch.zeros_like(code), 3, 10)


@given(st.data())
def test_any_code_of_the_right_length_gives_positions_or_is_refused(data):
    count, size = 3, 100
    length = code_size(count, size)
    code = data.draw(st.binary(min_size=length, max_size=length))
    try:
        indices = decode(torch.frombuffer(bytearray(code), dtype=torch.uint8), count, size)
    except WireError:
        return
    assert len(indices) == count
    assert (indices.diff() > 0).all()
    assert indices.min() >= 0
    assert indices.max() < size
