"""Where secrets come from: the system's generator, and nothing else unless a test says so loudly."""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gradwire.secure.kdf import derive


class InsecureWarning(UserWarning):
    """Secrets are not secret."""


_source: ContextVar[Callable[[int], bytes]] = ContextVar("source", default=secrets.token_bytes)


def random_bytes(count: int) -> bytes:
    """`count` bytes that nobody else can know."""
    return _source.get()(count)


@contextmanager
def insecure_seed(seed: int) -> Iterator[None]:
    """Derive every secret of the block from `seed`: for tests and known answers, never for data that matters."""
    warnings.warn(f"keys are derived from seed {seed}: nothing that is masked is secret", InsecureWarning, stacklevel=3)
    key = derive(seed.to_bytes(8, "little"), "insecure test mode")
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    token = _source.set(lambda count: stream.update(bytes(count)))
    try:
        yield
    finally:
        _source.reset(token)
