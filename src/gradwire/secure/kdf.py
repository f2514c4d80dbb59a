"""Secret bytes: random ones, keys derived from them by HKDF-SHA256, and a one-way ratchet.

H. Krawczyk, P. Eronen, "HMAC-based extract-and-expand key derivation function (HKDF)", RFC 5869, 2010.
"""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

KEY_BYTES = 32

_source: ContextVar[Callable[[int], bytes]] = ContextVar("source", default=secrets.token_bytes)


class InsecureWarning(UserWarning):
    """Secrets are not secret."""


def random_bytes(count: int) -> bytes:
    """`count` bytes of the system's generator."""
    return _source.get()(count)


class KeyStream:
    """Random bytes derived from one secret key (AES-256 in counter mode): a session that is resumed draws the same."""

    def __init__(self, key: bytes):
        self._key = key
        self._stream: Any = None

    def draw(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self._stream is None:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

            self._stream = Cipher(algorithms.AES(self._key), modes.CTR(bytes(16))).encryptor()
        return self._stream.update(bytes(count))

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Take the random bytes of a block from this stream."""
        token = _source.set(self.draw)
        try:
            yield
        finally:
            _source.reset(token)


@contextmanager
def insecure_seed(seed: int) -> Iterator[None]:
    """Derive every secret of the block from `seed`: for tests and known answers, never for data that matters."""
    warnings.warn(f"keys are derived from seed {seed}: nothing that is masked is secret", InsecureWarning, stacklevel=3)
    with KeyStream(derive(seed.to_bytes(8, "little"), "insecure test mode")).drawn_from():
        yield


def derive(secret: bytes, label: str, *context: bytes, length: int = KEY_BYTES) -> bytes:
    """A key for one purpose: HKDF of `secret`, with the label and the context as its info.

    Every part of the info follows its length, so that two purposes never have the same info.
    """
    hkdf, sha256 = _library()
    return hkdf(sha256(), length, salt=None, info=framed(b"gradwire", label.encode(), *context)).derive(secret)


@cache
def _library() -> tuple[Any, Any]:
    """HKDF and SHA-256, imported once: to look them up in each call takes as long as to derive a key."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF, SHA256


def framed(*parts: bytes) -> bytes:
    """The parts in a row, each behind its length: different parts never give the same bytes."""
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def ratchet(chain: bytes) -> tuple[bytes, bytes]:
    """This round's seed, and the chain of the next round.

    Both are one-way: a later chain tells no earlier seed (the SSGA paper's "refreshed every round by hashing").
    """
    both = derive(chain, "ratchet", length=2 * KEY_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]
