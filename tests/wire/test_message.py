import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.wire import Message
from gradwire.wire.body import parts, read

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.bool,
)


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    return (torch.randn(shape, generator=generator) * 10).abs().to(dtype)


messages = st.builds(
    Message,
    sender=st.text(max_size=8),
    receiver=st.text(max_size=8),
    round=st.integers(0, 2**40),
    phase=st.text(max_size=8),
    tensors=st.dictionaries(st.text(min_size=1, max_size=8), tensors(), max_size=4),
)


def example() -> Message:
    return Message("client:3", "server", 7, "P", {"P": torch.arange(6.0).view(2, 3), "dense": torch.ones(2)})


@given(messages)
def test_message_to_bytes_to_message_is_the_identity(message):
    again = Message.decode(message.encode())
    assert (again.sender, again.receiver, again.round, again.phase) == (
        message.sender,
        message.receiver,
        message.round,
        message.phase,
    )
    assert set(again.tensors) == set(message.tensors)
    for name, tensor in message.tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor)
    assert again.encode() == message.encode()


def test_tensors_of_none_or_one_entry_with_odd_strides_arrive():
    sent = {
        "none": torch.arange(6).view(2, 3)[:0, 1],
        "one": torch.arange(6).view(2, 3)[:1, 1],
        "same": torch.ones(1).expand(3),
    }
    got = Message.decode(Message("a", "b", 0, "x", sent).encode()).tensors
    assert all(torch.equal(got[name], sent[name]) for name in sent)


def test_views_of_one_storage_and_transposes_arrive_whole():
    base = torch.arange(12.0).view(3, 4)
    sent = {"whole": base, "row": base[1], "transposed": base.T, "again": base}
    got = Message.decode(Message("a", "b", 0, "x", sent).encode()).tensors
    assert all(torch.equal(got[name], sent[name]) for name in sent)


@given(st.data())
@settings(max_examples=200)
def test_any_changed_byte_is_refused(data):
    original = bytearray(example().encode())
    position = data.draw(st.integers(0, len(original) - 1))
    original[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        Message.decode(bytes(original))


@given(st.integers(0, 10_000))
def test_any_truncation_is_refused(length):
    data = example().encode()
    with pytest.raises(WireError, match="truncated"):
        Message.decode(data[: length % len(data)])


def test_errors_name_the_message():
    data = example().encode()
    name = "'P' of round 7 from client:3 to server"
    with pytest.raises(WireError, match=f"{name} is truncated"):
        Message.decode(data[:-1])
    with pytest.raises(WireError, match=f"{name} is too long"):
        Message.decode(data + b"x")
    with pytest.raises(WireError, match=f"{name} is corrupted"):
        Message.decode(data[:-1] + bytes([data[-1] ^ 1]))


def test_unknown_version_and_foreign_bytes_are_refused():
    data = bytearray(example().encode())
    data[4:6] = struct.pack("<H", 9)
    with pytest.raises(WireError, match="version 9; this gradwire reads version 1"):
        Message.decode(bytes(data))
    with pytest.raises(WireError, match="not a gradwire message"):
        Message.decode(b"PK\x03\x04" + bytes(60))


@given(messages)
def test_its_size_is_the_length_of_its_serialised_form(message):
    assert message.size == len(message.encode())


@given(messages)
def test_the_body_is_a_safetensors_file(message):
    body = b"".join(parts(message.tensors))
    theirs = safetensors.torch.load(body)
    assert set(theirs) == set(message.tensors)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in message.tensors.items())
    ours = read(memoryview(safetensors.torch.save(dict(message.tensors))))
    assert all(torch.equal(ours[name], tensor) for name, tensor in message.tensors.items())


def body_of(header: str, data: bytes) -> memoryview:
    return memoryview(struct.pack("<Q", len(header)) + header.encode() + data)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(4), "its tensors take 8 of 4 bytes"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', bytes(4), r"shape \[2\] does not fit bytes 0 to 4"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8), r"shape \[1\] does not fit bytes 4 to 8"),
        ('{"a":{"dtype":"U8","shape":[-1,-4],"data_offsets":[0,4]}}', bytes(4), "does not fit"),
        ('{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', bytes(4), "unknown type 'X9'"),
        ('{"a":{"dtype":"F32"}}', b"", "no readable header"),
        ("[1, 2]", b"", "no readable header"),
        ("{}", bytes(3), "its tensors take 0 of 3 bytes"),
    ],
)
def test_bodies_that_do_not_add_up_are_refused(header, data, message):
    with pytest.raises(WireError, match=message):
        read(body_of(header, data))


def test_a_dtype_that_no_message_carries_is_refused():
    with pytest.raises(WireError, match=r"tensor 'z' is of torch\.complex64; a message carries dense tensors of F64"):
        Message("a", "b", 0, "x", {"z": torch.zeros(2, dtype=torch.complex64)}).encode()
