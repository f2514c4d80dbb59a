import hashlib
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.secure.channels import seal, unseal
from gradwire.secure.kdf import InsecureWarning, insecure_seed, random_bytes
from gradwire.secure.shares import BYTES, PAIRS, Field, combine, combine_all, split

VECTORS = [(5, 3, "1ac689e996b3400f"), (300, 200, "29a6b43dc05146c7")]

secrets = st.binary(min_size=16, max_size=16)


@given(secrets, st.data())
def test_any_t_of_n_shares_give_the_secret_back(secret, data):
    holders = data.draw(st.integers(1, 9) | st.integers(250, 300))
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, threshold, holders)
    chosen = data.draw(st.randoms(use_true_random=False)).sample(range(holders), threshold)
    assert combine({holder: shares[holder] for holder in chosen}, threshold, holders) == secret


@pytest.mark.parametrize("field", [BYTES, PAIRS])
def test_the_fields_are_fields_whose_generator_is_x(field):
    """Known answers: the powers of x run through every symbol but 0; times_x agrees with them in every lane."""
    powers, logarithms = field.tables
    order = (1 << field.bits) - 1
    assert sorted(powers[:order]) == list(range(1, order + 1))
    assert powers[field.bits] == field.polynomial
    some = np.arange(order + 1, dtype=field.dtype)
    times = field.times_x(some.view("<u8")).view(field.dtype)
    assert (times[1:] == powers[(logarithms[1:] + 1) % order]).all()
    assert times[0] == 0


@pytest.mark.parametrize(("holders", "threshold", "digest"), VECTORS)
def test_shares_are_the_known_ones(holders, threshold, digest):
    with pytest.warns(InsecureWarning), insecure_seed(1):
        shares = split(bytes(range(16)), threshold, holders)
    assert hashlib.sha256(b"".join(shares)).hexdigest()[:16] == digest
    field, bits = Field.of(holders), Field.of(holders).bits
    with pytest.warns(InsecureWarning), insecure_seed(1):
        coefficients = np.frombuffer(bytes(range(16)) + random_bytes((threshold - 1) * 16), field.dtype)
    powers, logarithms = field.tables
    for holder in (0, holders - 1):
        total = np.zeros(128 // bits, dtype=np.int64)
        for j, row in enumerate(coefficients.reshape(threshold, -1)):
            exponent = logarithms[row] + logarithms[holder + 1] * j
            total ^= np.where(row == 0, 0, powers[exponent % ((1 << bits) - 1)])
        assert total.astype(field.dtype).tobytes() == shares[holder]


@given(st.lists(secrets, max_size=20), st.integers(0, 99))
def test_many_secrets_are_put_together_at_once(several, seed):
    random, holders, threshold = Random(seed), 12, 7
    sets = []
    for secret in several:
        shares = split(secret, threshold, holders)
        sets.append({holder: shares[holder] for holder in random.sample(range(holders), threshold + seed % 3)})
    assert combine_all(sets, threshold, holders) == several


def test_shares_are_drawn_anew_and_none_of_them_is_the_secret():
    secret = bytes(range(16))
    once, again = (split(secret, 2, 5) for _ in range(2))
    assert secret not in (*once, *again)
    assert len({*once, *again}) == 10


@given(secrets)
def test_fewer_give_nothing(secret):
    shares = split(secret, 3, 5)
    with pytest.raises(WireError, match="2 shares of a secret; 3 are needed"):
        combine({0: shares[0], 1: shares[1]}, 3, 5)
    # Two shares are consistent with any secret whatever: with a third one made up, another comes out.
    assert combine({0: shares[0], 1: shares[1], 2: bytes(16)}, 3, 5) != secret or shares[2] == bytes(16)


@given(secrets, st.binary(max_size=64), st.binary(max_size=8), st.data())
def test_a_seal_holds(key, plain, context, data):
    key = key * 2
    sealed = seal(key, plain, context)
    assert unseal(key, sealed, context, "share") == plain
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytes(b ^ (i == place) for i, b in enumerate(sealed))
    for wrong in ((key, changed, context), (key, sealed, context + b"x"), (bytes(32), sealed, context)):
        if wrong[0] == key and wrong[1] == sealed and wrong[2] == context:
            continue
        if wrong[0] == key or key != bytes(32):
            with pytest.raises(WireError, match="share cannot be opened"):
                unseal(*wrong, "share")
