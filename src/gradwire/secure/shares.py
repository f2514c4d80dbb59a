"""Shares of secrets: any t of n holders can put one together, fewer learn nothing; sealed, each for its holder.

A. Shamir, "How to share a secret", Communications of the ACM 22(11), 1979, over GF(2¹²⁸) as pycryptodome has it.
Secrets are 16-byte seeds (one field element): the keys proper are derived from them.
"""

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gradwire.errors import WireError

SECRET_BYTES = 16
TAG_BYTES = 16
# A sealing key serves one message, from one party to one other in one round, so that its nonce need not vary.
_NONCE = bytes(12)


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares for holders number 0 to `holders` − 1; any `threshold` of them give the secret back."""
    if threshold == 1:
        return [secret] * holders
    return [bytes(share) for _, share in Shamir.split(threshold, holders, secret)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret behind the shares of at least `threshold` holders (number → share)."""
    if len(shares) < threshold:
        raise WireError(f"{len(shares)} shares of a secret; {threshold} are needed")
    chosen = list(shares.items())[:threshold]
    if threshold == 1:
        return chosen[0][1]
    return bytes(Shamir.combine([(holder + 1, share) for holder, share in chosen]))


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate `plain` under a key used once; `context` is authenticated with it."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes, what: str) -> bytes:
    """What `seal` sealed in the same context.

    Raises:
        WireError: it was sealed by another party, for another or in another round, or was changed; said of `what`.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, context)
    except InvalidTag:
        raise WireError(f"{what} cannot be opened: sealed in another round, by another party, or changed") from None
