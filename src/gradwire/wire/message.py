"""A message: named tensors, who sent them to whom, in which round and phase. It has one serialised form.

    magic 4 | version 2 | header length 4 | body length 8 | checksum 8 | header | body

All integers are little endian. The header is compact JSON, the body a safetensors file, the checksum is XXH3-64
of header and body: it finds accidents, not adversaries (signatures are the business of secure schemes). The size
of a message in bytes is the length of this form and of nothing else.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xxhash
from torch import Tensor

from gradwire.errors import WireError
from gradwire.wire import body

MAGIC = b"GWIR"
VERSION = 1
SERVER = "server"
EVERYONE = "everyone"
_PREFIX = struct.Struct("<4sHIQQ")


def client(index: int) -> str:
    """The party name of client number `index`."""
    return f"client:{index}"


@dataclass(frozen=True)
class Message:
    """Named tensors from one party to another (or to `EVERYONE`), in one phase of one round."""

    sender: str
    receiver: str
    round: int
    phase: str
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """How errors and reports call this message."""
        return f"{self.phase!r} of round {self.round} from {_shown(self.sender)} to {_shown(self.receiver)}"

    def encode(self) -> bytearray:
        """The serialised form. Tensors may be of any shape, layout (dense) and device; they arrive on the CPU."""
        return bytearray().join(self._pieces())

    def frozen(self) -> bytes:
        """The serialised form as bytes, put together once."""
        return b"".join(self._pieces())

    def _pieces(self) -> tuple[bytes | memoryview, ...]:
        """The serialised form, its tensors' bytes where they are."""
        header, parts = self._header(), body.parts(self.tensors)
        length = sum(map(len, parts))
        return _PREFIX.pack(MAGIC, VERSION, len(header), length, _checksum((header, *parts))), header, *parts

    @property
    def size(self) -> int:
        """The length of the serialised form, without putting it together: tensors stay where they are."""
        data = sum(tensor.nbytes for tensor in self.tensors.values())
        return _PREFIX.size + len(self._header()) + len(body.header(self.tensors)) + data

    def _header(self) -> bytes:
        """The message's own header."""
        fields = {"from": self.sender, "to": self.receiver, "round": self.round, "phase": self.phase}
        header = json.dumps(fields, separators=(",", ":")).encode()
        # Padded, so that tensors stand at multiples of 8 bytes and can be used where they are.
        return header + b" " * (-(_PREFIX.size + len(header)) % 8)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> "Message":
        """The message with this serialised form. Its tensors share the memory of `data` where that can be written.

        Raises:
            WireError: not a message, an unknown version, truncated, over-long or corrupted bytes.
        """
        if len(data) < _PREFIX.size:
            raise WireError(f"message is truncated: {len(data)} bytes, its prefix alone takes {_PREFIX.size}")
        magic, version, header_length, body_length, checksum = _PREFIX.unpack_from(data)
        if magic != MAGIC:
            raise WireError(f"not a gradwire message: it starts with {magic!r}, not with {MAGIC!r}")
        if version != VERSION:
            raise WireError(f"message has version {version}; this gradwire reads version {VERSION}")
        start = _PREFIX.size + header_length
        view = memoryview(data)
        header = bytes(view[_PREFIX.size : start])
        name = _claimed_name(header)
        expected = start + body_length
        if len(data) != expected:
            fault = "truncated" if len(data) < expected else "too long"
            raise WireError(f"message {name} is {fault}: {len(data)} bytes, its prefix says {expected}")
        rest = view[start:]
        if _checksum((header, rest)) != checksum:
            raise WireError(f"message {name} is corrupted: its checksum does not match")
        try:
            return cls(*_fields(header), body.read(rest))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise WireError(f"message {name} cannot be read: {error}") from error


def _checksum(parts: Iterable[bytes | memoryview]) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


def _fields(header: bytes) -> tuple[str, str, int, str]:
    """Sender, receiver, round and phase; ValueError and its like if a header does not say them."""
    fields = json.loads(header)
    sender, receiver, round, phase = (fields[key] for key in ("from", "to", "round", "phase"))
    if not (isinstance(sender, str) and isinstance(receiver, str) and isinstance(phase, str) and type(round) is int):
        raise ValueError("its header must hold texts and a whole number of the round")
    return sender, receiver, round, phase


def _claimed_name(header: bytes) -> str:
    """What a message that may be damaged says of itself, for the error that refuses it."""
    try:
        sender, receiver, round, phase = _fields(header)
    except (KeyError, TypeError, ValueError, RecursionError):
        return "with an unreadable header"
    return Message(sender, receiver, round, phase, {}).name


def _shown(party: str) -> str:
    """A party's name within one line."""
    return party if party.isprintable() else repr(party)
