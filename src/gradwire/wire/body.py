"""A message's body: a safetensors file, written with one copy of the tensors' bytes and read with none.

    header length 8 | header (JSON, padded to a multiple of 8) | the tensors' bytes, little endian, one after another

The safetensors library writes and reads the same format with three copies and two; on a wire that is the price of
the network over again. https://github.com/huggingface/safetensors (format).
"""

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from gradwire.errors import WireError

NAMES: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
LARGEST, DIMENSIONS = 2**63 - 1, 64
"""The most entries and dimensions that a tensor's shape may say."""
_LENGTH = struct.Struct("<Q")


def parts(tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """The body in pieces: its header, and every tensor's bytes where they are.

    Args:
        tensors: dense, of any shape and device, and of a dtype in `NAMES`.

    Raises:
        WireError: a tensor that a message does not carry, by name.
    """
    return [header(tensors), *(_bytes(tensors[name].detach()) for name in _order(tensors))]


def header(tensors: Mapping[str, Tensor]) -> bytes:
    """The body's header, which says where the bytes of each tensor are; raises as `parts`."""
    fields: dict[str, object] = {}
    position = 0
    for name in _order(tensors):
        tensor = tensors[name]
        if tensor.dtype not in NAMES or tensor.layout != torch.strided:
            kind = tensor.dtype if tensor.dtype not in NAMES else tensor.layout
            raise WireError(f"tensor {name!r} is of {kind}; a message carries dense tensors of {', '.join(DTYPES)}")
        end = position + tensor.nbytes
        fields[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _LENGTH.pack(len(text)) + text


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    """The widest first, as the format's alignment wants it; then by name, so that equal messages are equal."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes, where they are if they can be seen there."""
    flat = tensor.cpu().contiguous().reshape(-1)
    if flat.stride() != (1,):
        # Of none or one entry, any stride counts as contiguous, but not as bytes in a row.
        flat = torch.empty(len(flat), dtype=flat.dtype).copy_(flat)
    return flat.view(torch.uint8).numpy().data


def read(body: memoryview) -> dict[str, Tensor]:
    """The tensors of a body, in its own memory where that can be written, in a copy otherwise.

    Raises:
        WireError: not a body; tensors that overlap, leave gaps or do not have the size that their shape says.
    """
    if len(body) < _LENGTH.size:
        raise WireError("its body is too short")
    start = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    try:
        fields = json.loads(bytes(body[_LENGTH.size : start]))
        rows = sorted(_row(name, field) for name, field in fields.items())
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise WireError("its body has no readable header") from None
    taken = max((row[1] for row in rows), default=0)
    if start + taken != len(body):
        raise WireError(f"its tensors take {taken} of {len(body) - start} bytes")
    data = bytearray(body[start:]) if body.readonly else body[start:]
    storage = torch.frombuffer(data, dtype=torch.uint8) if len(data) else torch.empty(0)
    tensors: dict[str, Tensor] = {}
    position = 0
    for begin, end, name, kind, shape in rows:
        if kind not in DTYPES:
            raise WireError(f"tensor {name!r} is of unknown type {kind!r}")
        dtype = DTYPES[kind]
        fits = begin == position and begin % dtype.itemsize == 0 and end - begin == prod(shape) * dtype.itemsize
        if not fits or not _can_be(shape):
            raise WireError(f"tensor {name!r} of shape {shape} does not fit bytes {begin} to {end}")
        flat = storage[begin:end] if end > begin else torch.empty(0, dtype=torch.uint8)
        if dtype == torch.bool and end > begin and int(flat.max()) > 1:
            raise WireError(f"tensor {name!r} of truth values holds {int(flat.max())}; each must be 0 or 1")
        tensors[name] = flat.view(dtype).view(shape)
        position = end
    return tensors


def _row(name: str, field: Any) -> tuple[int, int, str, str, list[int]]:
    """Where a tensor's bytes are, its name, dtype and shape; ValueError and its like if a header does not say it."""
    (begin, end), kind, shape = field["data_offsets"], field["dtype"], field["shape"]
    whole = isinstance(shape, list) and all(type(n) is int for n in (begin, end, *shape))
    if not whole or not isinstance(kind, str):
        raise ValueError("places and shapes are whole numbers")
    return begin, end, name, kind, shape


def _can_be(shape: list[int]) -> bool:
    """Whether a tensor can have this shape."""
    return len(shape) <= DIMENSIONS and all(n >= 0 for n in shape) and prod(n or 1 for n in shape) <= LARGEST
