"""Identities as files: each client's Ed25519 key, and the list of who may join, which all clients hold alike.

A key file is PEM (PKCS #8), readable by its owner alone. A line of the list is a party, its verification key in hex
and, behind a #, whatever helps people: `client:0 1f8a… # Ada's laptop`. People compare fingerprints.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradwire.errors import GradwireError
from gradwire.secure import keys
from gradwire.secure.kdf import KEY_BYTES, random_bytes


@dataclass(frozen=True)
class Identities:
    """What a client brings to a run.

    Attributes:
        own: its signing key.
        members: the verification key of everybody who may join, party → 32 bytes.
    """

    own: bytes = field(repr=False)
    members: Mapping[str, bytes]

    @classmethod
    def load(cls, key: str | Path, members: str | Path) -> "Identities":
        """From a key file and a list; GradwireError if the key is none of a member's."""
        own, known = read_key(key), read_members(members)
        if (public := keys.verification_key(own)) not in known.values():
            raise GradwireError(f"{key} has the fingerprint {fingerprint(public)}, which is none of those in {members}")
        return cls(own, known)

    def check(self, party: str, verification: bytes) -> None:
        """Refuse a party that is not on the list, or shows another key."""
        if party not in self.members:
            raise GradwireError(f"{party} is not among the members {', '.join(self.members)}")
        if self.members[party] != verification:
            shown, due = fingerprint(verification), fingerprint(self.members[party])
            raise GradwireError(f"{party} shows a key with the fingerprint {shown}; the list of members has {due}")


def fingerprint(verification: bytes) -> str:
    """What people compare: 80 bits of the key's SHA-256, in groups of four hexadecimal digits."""
    digits = hashlib.sha256(b"gradwire identity" + verification).hexdigest()[:20]
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def write_key(path: str | Path) -> bytes:
    """Write a new key to a file that is not there yet; its verification key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = random_bytes(KEY_BYTES)
    text = Ed25519PrivateKey.from_private_bytes(secret).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    except OSError as error:
        raise GradwireError(f"the key cannot be written to {path}: {error.strerror}") from None
    return keys.verification_key(secret)


def read_key(path: str | Path) -> bytes:
    """The signing key in a file; GradwireError if it is none, or if others may read it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        text, mode = Path(path).read_bytes(), Path(path).stat().st_mode
        found = load_pem_private_key(text, None)
    except (OSError, ValueError, TypeError) as error:
        raise GradwireError(f"{path} holds no key: {' '.join(str(error).split())}") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise GradwireError(f"{path} holds a {type(found).__name__}; it must be an Ed25519 key")
    if os.name == "posix" and mode & 0o077:
        raise GradwireError(f"{path} can be read by others (mode {mode & 0o777:o}); it must be 600")
    return found.private_bytes_raw()


def read_members(path: str | Path) -> dict[str, bytes]:
    """Party → verification key; GradwireError names a line that is none, or a party or key that comes twice."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GradwireError(f"the members cannot be read from {path}: {error}") from None
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not (words := line.partition("#")[0].split()):
            continue
        try:
            party, key = words[0], bytes.fromhex(words[1])
        except (IndexError, ValueError):
            raise GradwireError(f"{path}, line {number}: {line!r}; it must be a party and its key in hex") from None
        if len(key) != KEY_BYTES or party in found or key in found.values():
            raise GradwireError(f"{path}, line {number}: {party} has no key of 32 bytes, or one that is there already")
        found[party] = key
    return found
