import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.secure import keys
from gradwire.secure.entropy import InsecureWarning, insecure_seed, random_bytes
from gradwire.secure.kdf import derive, ratchet
from gradwire.secure.masks import expand

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
CURVES = ("x25519", "brainpoolP256r1")
seeds = st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize("case", VECTORS["agreement"], ids=lambda case: case["source"])
def test_agreement_gives_the_published_secret(case):
    for side, other in (("a", "b"), ("b", "a")):
        secret, peer = bytes.fromhex(case[f"secret_{side}"]), bytes.fromhex(case[f"public_{other}"])
        assert keys.agree(case["curve"], secret, peer, "client:1").hex() == case["shared"]
        assert keys.public_key(case["curve"], secret).hex() == case[f"public_{side}"]


@pytest.mark.parametrize("case", VECTORS["signature"], ids=lambda case: case["source"])
def test_signatures_are_the_published_ones(case):
    identity, statement = bytes.fromhex(case["identity"]), bytes.fromhex(case["statement"])
    assert keys.verification_key(identity).hex() == case["verification"]
    assert keys.sign(identity, statement).hex() == case["signature"]
    assert keys.verify(bytes.fromhex(case["verification"]), bytes.fromhex(case["signature"]), statement)
    assert not keys.verify(bytes.fromhex(case["verification"]), bytes.fromhex(case["signature"]), statement + b"x")


@pytest.mark.parametrize("case", VECTORS["derivation"], ids=lambda case: case["label"])
def test_derivation_is_stable_and_is_hkdf(case):
    secret, context = bytes.fromhex(case["secret"]), [bytes.fromhex(part) for part in case["context"]]
    found = derive(secret, case["label"], *context)
    assert found.hex() == case["key"]
    parts = (b"gradwire", case["label"].encode(), *context)
    info = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    assert found == hmac.digest(extracted, info + b"\x01", hashlib.sha256)


@pytest.mark.parametrize("case", VECTORS["mask"], ids=lambda case: case["source"])
def test_masks_are_stable_and_are_aes_256_in_counter_mode(case):
    counter = Cipher(algorithms.AES(bytes.fromhex(case["key"])), modes.CTR(bytes(15) + b"\x02")).encryptor()
    assert counter.update(bytes(48)).hex() == case["stream"]
    for bits in (8, 16, 32):
        data = bytes.fromhex(case["stream"])
        codes = expand(bytes.fromhex(case["key"]), 8 * len(data) // bits, np.dtype(f"<u{bits // 8}"))
        assert codes.tobytes() == data


@given(st.sampled_from(CURVES), seeds, seeds)
def test_both_sides_agree(curve, a, b):
    secret, other = keys.secret_key(curve, a), keys.secret_key(curve, b)
    mine = keys.agree(curve, secret, keys.public_key(curve, other), "b")
    assert mine == keys.agree(curve, other, keys.public_key(curve, secret), "a")
    assert len(keys.public_key(curve, secret)) == keys.PUBLIC_BYTES[curve]


@given(seeds, st.text(max_size=5), st.lists(st.binary(max_size=4), max_size=3))
def test_purposes_do_not_run_into_one_another(secret, label, context):
    assert derive(secret, label, *context) != derive(secret, label, *context, b"")
    if len(context) > 1:
        assert derive(secret, label, *context) != derive(secret, label, context[0] + context[1], *context[2:])


def test_the_ratchet_moves_on():
    chain, seen = bytes(32), set()
    for _ in range(100):
        seed, chain = ratchet(chain)
        assert seed not in seen
        assert chain not in seen
        seen |= {seed, chain}


def test_points_that_are_not_on_the_curve_are_refused():
    secret = keys.secret_key("x25519", bytes(16))
    with pytest.raises(WireError, match="of client:3 is no usable point of x25519"):
        keys.agree("x25519", secret, bytes(32), "client:3")
    secret = keys.secret_key("brainpoolP256r1", bytes(16))
    with pytest.raises(WireError, match="of client:3 is no usable point of brainpoolP256r1"):
        keys.agree("brainpoolP256r1", secret, b"\x02" + bytes(32), "client:3")


def test_secrets_come_from_the_system_unless_a_test_says_otherwise_loudly():
    assert random_bytes(16) != random_bytes(16)
    loud = "keys are derived from seed 7: nothing that is masked is secret"
    with pytest.warns(InsecureWarning, match=loud), insecure_seed(7):
        first = random_bytes(16)
    with pytest.warns(InsecureWarning), insecure_seed(7):
        assert random_bytes(16) == first
    assert random_bytes(16) != first
