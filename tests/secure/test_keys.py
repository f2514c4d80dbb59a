import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from gradwire import secure
from gradwire.errors import WireError
from gradwire.secure import keys
from gradwire.secure.kdf import InsecureWarning, derive, insecure_seed, random_bytes, ratchet
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


PRIME = 2**255 - 19
BAD_POINTS = {
    "x25519": [number.to_bytes(32, "little") for number in (0, 1, PRIME - 1, PRIME, PRIME + 1)],  # of small order
    "brainpoolP256r1": [b"\x02" + bytes(32), b"\x03" + b"\xff" * 32, bytes(33), b"\x04" + bytes(64), b"\x00"],
}


@pytest.mark.parametrize("curve", CURVES)
def test_points_that_are_not_on_the_curve_are_refused(curve):
    secret = keys.secret_key(curve, bytes(16))
    for point in (*BAD_POINTS[curve], b"", bytes(31)):
        with pytest.raises(WireError, match=f"of client:3 is no usable point of {curve}"):
            keys.agree(curve, secret, point, "client:3")


@given(st.sampled_from([b"\x02", b"\x03"]), st.binary(min_size=32, max_size=32))
def test_half_of_all_numbers_are_no_point_of_brainpool(sign, number):
    """y² = x³ + ax + b has a root or has none (RFC 5639, 3.4): whatever comes, the secret or one line of refusal."""
    p = 0xA9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377
    a = 0x7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9
    b = 0x26DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B6
    x = int.from_bytes(number, "big")
    on_the_curve = x < p and pow(x**3 + a * x + b, (p - 1) // 2, p) in (0, 1)
    try:
        keys.agree("brainpoolP256r1", keys.secret_key("brainpoolP256r1", bytes(16)), sign + number, "client:3")
        assert on_the_curve
    except WireError:
        assert not on_the_curve


def test_secrets_come_from_the_system_unless_a_test_says_otherwise_loudly():
    assert random_bytes(16) != random_bytes(16)
    loud = "keys are derived from seed 7: nothing that is masked is secret"
    with pytest.warns(InsecureWarning, match=loud), insecure_seed(7):
        first = random_bytes(16)
    with pytest.warns(InsecureWarning), insecure_seed(7):
        assert random_bytes(16) == first
    assert random_bytes(16) != first


def test_libraries_of_cryptography_are_loaded_when_used():
    modules = ", ".join(f"gradwire.secure.{module.name}" for module in iter_modules(secure.__path__))
    slow = "{'cryptography', 'Crypto', 'scipy'}"
    code = f"import sys, {modules}; assert not {slow} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
