"""Key agreement and signatures. Keys are bytes, so that states hold them and messages carry them.

Agreement is elliptic-curve Diffie–Hellman, on X25519 (RFC 7748) or on brainpoolP256r1 (RFC 5639, the curve of the
SSGA paper); signatures are Ed25519 (RFC 8032).
"""

from typing import Literal

from gradwire.errors import WireError
from gradwire.secure.kdf import derive

Curve = Literal["x25519", "brainpoolP256r1"]
PUBLIC_BYTES = {"x25519": 32, "brainpoolP256r1": 33}
SIGNATURE_BYTES = 64

# The order of brainpoolP256r1's group (RFC 5639, section 3.4).
_ORDER = 0xA9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7


def secret_key(curve: Curve, seed: bytes) -> bytes:
    """The agreement key of a seed: 32 bytes; the seed must hold at least 16 bytes of entropy."""
    if curve == "x25519":
        return derive(seed, "x25519 key")
    # 48 bytes modulo a 32-byte order: the bias is below 2⁻¹²⁸.
    number = int.from_bytes(derive(seed, "brainpoolP256r1 key", length=48), "big") % (_ORDER - 1) + 1
    return number.to_bytes(32, "big")


def public_key(curve: Curve, secret: bytes) -> bytes:
    """The public half of an agreement key."""
    from cryptography.hazmat.primitives.asymmetric import ec, x25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if curve == "x25519":
        return x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.BrainpoolP256R1())
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def agree(curve: Curve, secret: bytes, peer: bytes, whose: str) -> bytes:
    """The secret shared with the holder of the public key `peer`: derive keys from it, do not use it as one.

    WireError names `whose` key is no point of the curve, or one of small order.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    try:
        if curve == "x25519":
            private = x25519.X25519PrivateKey.from_private_bytes(secret)
            return private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.BrainpoolP256R1(), peer)
        return ec.derive_private_key(int.from_bytes(secret, "big"), ec.BrainpoolP256R1()).exchange(ec.ECDH(), point)
    except ValueError:
        raise WireError(f"public key {peer.hex()[:16]}… of {whose} is no usable point of {curve}") from None


def verification_key(identity: bytes) -> bytes:
    """The public half of an identity (32 secret bytes)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()


def sign(identity: bytes, statement: bytes) -> bytes:
    """The identity's signature of a statement, 64 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(identity).sign(statement)


def verify(verification: bytes, signature: bytes, statement: bytes) -> bool:
    """Whether the identity behind `verification` signed this statement."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(verification).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True
