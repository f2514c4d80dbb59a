"""The transcript: every message of a run in order, with its size, recorded at the transport's one door."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gradwire.errors import WireError
from gradwire.wire.message import EVERYONE, SERVER, Message

_MAGIC = b"GWTR\x02"
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Record:
    """One message that was carried, how long its serialised form was, and whom it reached."""

    message: Message
    size: int
    receivers: tuple[str, ...]


@dataclass
class Transcript:
    """Messages in the order in which they were carried, and the bytes that each party sent and received.

    Long runs keep counting bytes but forget messages: `keep` is the number of latest rounds whose messages stay
    (None: all of them; 0: none).
    """

    keep: int | None = None
    records: list[Record] = field(default_factory=list)
    _up: dict[int, Counter[str]] = field(default_factory=dict)
    _down: dict[int, Counter[str]] = field(default_factory=dict)

    def record(self, message: Message, size: int, receivers: tuple[str, ...]) -> None:
        """Take down a message of `size` bytes that reached `receivers`."""
        self.count(message.sender, message.round, size, receivers)
        if self.keep == 0:
            return
        self.records.append(Record(message, size, receivers))
        if self.keep is not None and self.records[0].message.round <= message.round - self.keep:
            self.records = [r for r in self.records if r.message.round > message.round - self.keep]

    def count(self, sender: str, round: int, size: int, receivers: tuple[str, ...]) -> None:
        """Count a message of `size` bytes without taking it down."""
        if sender != SERVER:
            self._up.setdefault(round, Counter())[sender] += size
        for party in receivers:
            if party != SERVER:
                self._down.setdefault(round, Counter())[party] += size

    def bytes_up(self, party: str | None = None, round: int | None = None) -> int:
        """Bytes that `party` (all clients, if None) sent in `round` (in all rounds, if None)."""
        return _total(self._up, party, round)

    def bytes_down(self, party: str | None = None, round: int | None = None) -> int:
        """Bytes that reached `party` (all clients, if None) in `round` (in all rounds, if None)."""
        return _total(self._down, party, round)

    def messages(self, round: int | None = None) -> Iterator[Message]:
        """The messages kept, of one round or of all."""
        return (r.message for r in self.records if round is None or r.message.round == round)

    def seen_by(self, adversary: str, round: int | None = None) -> tuple[Message, ...]:
        """What `adversary` sees: the server and an eavesdropper all of it, a client what it sent and received."""
        messages = self.messages(round)
        if adversary in (SERVER, "eavesdropper"):
            return tuple(messages)
        return tuple(m for m in messages if m.sender == adversary or m.receiver in (adversary, EVERYONE))

    def encode(self) -> bytes:
        """The messages kept, in their serialised form, one after another."""
        parts = [message.frozen() for message in self.messages()]
        return _MAGIC + b"".join(_LENGTH.pack(len(part)) + part for part in parts)

    @staticmethod
    def decode(data: bytes, name: str) -> tuple[Message, ...]:
        """The messages that `encode` wrote; `name` is where they come from, for errors.

        Raises:
            WireError: not a transcript, or one that breaks off.
        """
        if not data.startswith(_MAGIC):
            raise WireError(f"{name} is not a transcript of this gradwire's version")
        messages: list[Message] = []
        position = len(_MAGIC)
        while position < len(data):
            start = position + _LENGTH.size
            if start > len(data):
                raise WireError(f"{name} breaks off after {len(messages)} messages")
            position = start + _LENGTH.unpack_from(data, position)[0]
            messages.append(Message.decode(data[start:position]))
        return tuple(messages)


def _total(counts: Mapping[int, Counter[str]], party: str | None, round: int | None) -> int:
    rounds = counts.values() if round is None else [counts.get(round, Counter())]
    return sum(each.total() if party is None else each[party] for each in rounds)
