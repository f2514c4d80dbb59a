"""Byte strings that are no message: each is refused in one line, or is a message that is written as it was read."""

import json
import struct
from random import Random

import torch

from gradwire.errors import WireError
from gradwire.wire import Message, Transcript
from gradwire.wire.message import _PREFIX, MAGIC, VERSION, _checksum
from tests.fuzzed import bytes_changed, said, trials, value_changed

GOOD = Message(
    "client:3",
    "server",
    7,
    "P",
    {"P": torch.arange(6.0).view(2, 3), "codes": torch.arange(3, dtype=torch.uint8), "on": torch.tensor([True])},
)


def sealed(header: bytes, body: bytes) -> bytes:
    """What somebody sends who knows the format: its lengths and its checksum are right."""
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header), len(body), _checksum((header, body)))
    return prefix + header + body


def with_headers(outer: object, inner: object, data: bytes) -> bytes:
    text = json.dumps(inner).encode()
    return sealed(json.dumps(outer).encode(), struct.pack("<Q", len(text)) + text + data)


def parts_of(message: Message) -> tuple[dict, dict, bytes]:
    data = bytes(message.encode())
    header, body = (_PREFIX.unpack_from(data)[n] for n in (2, 3))
    outer, rest = data[_PREFIX.size :][:header], data[-body:]
    length = struct.unpack_from("<Q", rest)[0]
    return json.loads(outer), json.loads(rest[8 : 8 + length]), rest[8 + length :]


OUTER, INNER, DATA = parts_of(GOOD)


def drawn(random: Random) -> bytes:
    kind = random.randrange(6)
    if kind == 0:
        return random.randbytes(random.randrange(200))
    if kind == 1:
        return bytes_changed(bytes(GOOD.encode()), random)
    outer = value_changed(OUTER, random) if kind in (2, 4) else OUTER
    inner = value_changed(INNER, random) if kind in (3, 4) else INNER
    data = bytes_changed(DATA, random) if kind == 5 else DATA
    return with_headers(outer, inner, data)


def test_any_byte_string_is_refused_in_one_line_or_is_the_message_that_it_is_read_as():
    random, read = Random(0), 0
    count = trials(5000)
    for _ in range(count):
        data = drawn(random)
        try:
            message = Message.decode(data)
        except WireError as error:
            said(error)
            continue
        read += 1
        again = Message.decode(message.encode())
        assert again.encode() == message.encode()
        assert (message.name, message.size) == (again.name, len(again.encode()))
        assert len(message.name.splitlines()) == 1
        assert message.round == int(message.round)
    # Otherwise it would be the refusal of everything that passes.
    assert 0.01 * count < read < 0.5 * count


def test_any_transcript_is_refused_in_one_line_or_holds_messages():
    random, transcript = Random(1), Transcript()
    transcript.record(GOOD, GOOD.size, ())
    transcript.record(Message("server", "everyone", 7, "P", {}), 1, ())
    good, whole = transcript.encode(), 0
    assert len(Transcript.decode(good, "good")) == 2
    for _ in range(trials(1000)):
        try:
            whole += len(Transcript.decode(bytes_changed(good, random), "it"))
        except WireError as error:
            said(error)


def test_headers_that_nest_without_end_are_refused():
    deep, header = b"[" * 100_000, json.dumps(OUTER).encode()
    for data in (sealed(deep, b""), sealed(header, struct.pack("<Q", len(deep)) + deep)):
        try:
            Message.decode(data)
        except WireError as error:
            said(error)
        else:
            raise AssertionError("a header that nests 100,000 lists was read")
