import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from gradwire.secure.masks import TILE_BYTES, blend, expand, faster, stream
from gradwire.secure.ring import BITS

KEYS = [bytes([i]) * 32 for i in range(4)]


def p_uniform(codes):
    """The chi-square p-value of every byte of the codes being uniform; of so many tests, by Bonferroni."""
    counts = [np.bincount(byte_tensors, minlength=256) for byte_tensors in codes[:, None].view(np.uint8).T]
    expected = len(codes) / 256
    return len(counts) * min(chi2.sf(((count - expected) ** 2 / expected).sum(), 255) for count in counts)


@pytest.mark.parametrize("bits", BITS)
def test_a_mask_is_uniform(bits):
    for key in KEYS:
        assert p_uniform(expand(key, 1_000_000, np.dtype(f"<u{bits // 8}"))) > 1e-3


@pytest.mark.parametrize("bits", BITS)
def test_masks_of_two_keys_are_independent(bits):
    dtype = np.dtype(f"<u{bits // 8}")
    first, second = (expand(key, 1_000_000, dtype).astype(np.float64) for key in KEYS[:2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 5e-3
    assert p_uniform(expand(KEYS[0], 1_000_000, dtype) - expand(KEYS[1], 1_000_000, dtype)) > 1e-3


@given(st.integers(0, 3 * TILE_BYTES), st.sampled_from(BITS), st.integers(0, 3))
def test_a_shorter_mask_is_the_beginning_of_a_longer_one(count, bits, key):
    dtype = np.dtype(f"<u{bits // 8}")
    assert np.array_equal(expand(KEYS[key], count, dtype), expand(KEYS[key], 3 * TILE_BYTES, dtype)[:count])


@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(1, 3000), min_size=1, max_size=4))
def test_either_mode_gives_the_same_mask(key, lengths):
    assert faster() in ("gcm", "ctr")
    ciphers = [stream(key, mode) for mode in ("gcm", "ctr")]
    for length in (16 * n for n in lengths):  # both go on where they were
        first, second = (cipher.update(bytes(length)) for cipher in ciphers)
        assert first == second


@given(st.integers(0, 2 * TILE_BYTES), st.sampled_from(BITS))
def test_what_is_added_and_taken_away_leaves_the_codes(count, bits):
    codes = np.arange(count).astype(f"<u{bits // 8}")
    masked = codes.copy()
    blend(masked, [(key, 1) for key in KEYS])
    if count > 100:
        assert not np.array_equal(masked, codes)
    blend(masked, [(key, -1) for key in KEYS])
    assert np.array_equal(masked, codes)
