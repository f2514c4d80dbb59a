import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.wire import bits


@given(st.integers(1, 8), st.integers(0, 50), st.integers(0, 1000))
def test_numbers_come_back_and_take_their_bits(width, count, seed):
    g = torch.Generator().manual_seed(seed)
    values = torch.randint(1 << width, (count,), generator=g).to(torch.uint8)
    code = bits.pack(values, width)
    assert code.dtype == torch.uint8
    assert len(code) == bits.packed_size(count, width) == -(-count * width // 8)
    assert torch.equal(bits.unpack(code, count, width), values)


def test_the_layout_is_little_end_first():
    assert bits.pack(torch.tensor([1, 2, 3], dtype=torch.uint8), 4).tolist() == [0x21, 0x03]
    assert bits.pack(torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 1], dtype=torch.uint8), 1).tolist() == [1, 1]
    assert bits.pack(torch.tensor([7, 0, 1], dtype=torch.uint8), 3).tolist() == [0b01000111, 0]


@pytest.mark.parametrize("length", [0, 2, 4])
def test_a_code_of_another_length_is_refused(length):
    with pytest.raises(WireError, match=f"code holds {length} bytes of torch.uint8; 6 numbers of 4 bits take 3"):
        bits.unpack(torch.zeros(length, dtype=torch.uint8), 6, 4)


def test_more_than_eight_bits_are_refused():
    with pytest.raises(WireError, match="numbers of 9 bits cannot be packed; 1 to 8 can"):
        bits.pack(torch.zeros(1, dtype=torch.uint8), 9)
