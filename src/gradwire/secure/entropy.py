"""Where secrets come from: the system's generator, or a key that was drawn from it before."""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gradwire.secure.kdf import derive


class InsecureWarning(UserWarning):
    """Secrets are not secret."""


_source: ContextVar[Callable[[int], bytes]] = ContextVar("source", default=secrets.token_bytes)


def random_bytes(count: int) -> bytes:
    """`count` bytes that nobody else can know."""
    return _source.get()(count)


def drawing_from(key: bytes) -> Callable[[], AbstractContextManager[None]]:
    """Contexts, one after another, in which secrets come from the stream of one secret key (AES-256 in counter mode).

    Whoever saves the key can draw the same secrets again: a session that is resumed must not draw others.
    """
    stream = Cipher(algorithms.AES(derive(key, "entropy")), modes.CTR(bytes(16))).encryptor()

    @contextmanager
    def source() -> Iterator[None]:
        token = _source.set(lambda count: stream.update(bytes(count)))
        try:
            yield
        finally:
            _source.reset(token)

    return source


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
