"""Bytes as tensors, the only thing that messages and states hold, and the tensors of messages that may be malformed."""

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.wire import Tensors


def to_tensor(data: bytes) -> Tensor:
    """The bytes as uint8, shape (len(data),)."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def to_bytes(tensor: Tensor) -> bytes:
    """The bytes that `to_tensor` made the tensor of."""
    return tensor.contiguous().numpy().tobytes()


def table(rows: list[bytes], width: int) -> Tensor:
    """Rows of `width` bytes each: uint8, shape (len(rows), width)."""
    return to_tensor(b"".join(rows)).view(len(rows), width)


def part(tensors: Tensors, name: str, where: str) -> Tensor:
    """One tensor of a message.

    Raises:
        WireError: it is not there: this is the message of another phase. Said of `where`.
    """
    if name not in tensors:
        raise WireError(f"{where}: message holds {sorted(tensors)}; it must hold {name!r}")
    return tensors[name]


def places(tensors: Tensors, where: str) -> list[int]:
    """The clients that a message is about, by place; none comes twice.

    Raises:
        WireError: they are missing or no list of places, said of `where`.
    """
    found = part(tensors, "places", where)
    if found.dtype != torch.int32 or found.dim() != 1 or len(found.unique()) != len(found):
        raise WireError(f"{where}: places are {found.tolist()} of {found.dtype}; they must be different int32")
    return found.tolist()


def rows(tensor: Tensor, count: int, width: int, what: str) -> list[bytes]:
    """The rows that `table` made the tensor of.

    Raises:
        WireError: another shape or type, said of `what`.
    """
    if tensor.dtype != torch.uint8 or tuple(tensor.shape) != (count, width):
        found = f"{tuple(tensor.shape)} of {tensor.dtype}"
        raise WireError(f"{what} have shape {found}; they must be ({count}, {width}) of torch.uint8")
    return [to_bytes(row) for row in tensor]
