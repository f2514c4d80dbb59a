"""Key derivation: HKDF-SHA256 with labels, and a ratchet that cannot be turned back.

H. Krawczyk, P. Eronen, "HMAC-based extract-and-expand key derivation function (HKDF)", RFC 5869, 2010.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive(secret: bytes, label: str, *context: bytes, length: int = KEY_BYTES) -> bytes:
    """A key for one purpose: HKDF of `secret` with the label and the context as its info.

    Every part of the info goes with its length, so that no two purposes can be spelled alike.
    """
    parts = (b"gradwire", label.encode(), *context)
    info = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


def ratchet(chain: bytes) -> tuple[bytes, bytes]:
    """This round's seed, and the chain of the next round.

    Both are one-way: who learns a later chain learns no earlier seed (the paper's "refreshed every round by hashing").
    """
    both = derive(chain, "ratchet", length=2 * KEY_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]
