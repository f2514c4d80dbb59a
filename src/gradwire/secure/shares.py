"""Shares of secrets: any t of n holders restore a secret; fewer learn nothing of it.

A. Shamir, "How to share a secret", Communications of the ACM 22(11), 1979, over GF(2¹²⁸) as in pycryptodome. Secrets
are 16-byte seeds (one field element), from which the keys proper are derived.
"""

from collections.abc import Mapping

from gradwire.errors import WireError
from gradwire.secure.kdf import random_bytes

SECRET_BYTES = 16


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares for holders number 0 to `holders` − 1; any `threshold` of them give the secret back."""
    from Crypto.Protocol.SecretSharing import _Element

    if threshold == 1:
        return [secret] * holders
    # As pycryptodome's Shamir.split, but with our own random bytes: a resumed session must deal the same shares.
    coefficients = [_Element(random_bytes(SECRET_BYTES)) for _ in range(threshold - 1)] + [_Element(secret)]
    shares = []
    for holder in range(holders):
        place, share = _Element(holder + 1), _Element(0)
        for coefficient in coefficients:
            share = place * share + coefficient
        shares.append(bytes(share.encode()))
    return shares


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret behind the shares (holder's number → share); WireError if they are fewer than `threshold`."""
    from Crypto.Protocol.SecretSharing import Shamir

    if len(shares) < threshold:
        raise WireError(f"{len(shares)} shares of a secret; {threshold} are needed")
    chosen = list(shares.items())[:threshold]
    if threshold == 1:
        return chosen[0][1]
    return bytes(Shamir.combine([(holder + 1, share) for holder, share in chosen]))
