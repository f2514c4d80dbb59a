import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.secure.channels import seal, unseal
from gradwire.secure.shares import combine, split

secrets = st.binary(min_size=16, max_size=16)


@given(secrets, st.data())
def test_any_t_of_n_shares_give_the_secret_back(secret, data):
    holders = data.draw(st.integers(1, 9))
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, threshold, holders)
    chosen = data.draw(st.permutations(range(holders)))[:threshold]
    assert combine({holder: shares[holder] for holder in chosen}, threshold) == secret


@given(secrets)
def test_fewer_give_nothing(secret):
    shares = split(secret, 3, 5)
    with pytest.raises(WireError, match="2 shares of a secret; 3 are needed"):
        combine({0: shares[0], 1: shares[1]}, 3)
    # Two shares are consistent with any secret whatever: with a third one made up, another comes out.
    assert combine({0: shares[0], 1: shares[1], 2: bytes(16)}, 3) != secret or shares[2] == bytes(16)


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
