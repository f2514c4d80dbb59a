"""Bytes as tensors, the only thing that messages and states hold."""

import torch
from torch import Tensor

from gradwire.errors import WireError


def to_tensor(data: bytes) -> Tensor:
    """The bytes as uint8, shape (len(data),)."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def to_bytes(tensor: Tensor) -> bytes:
    """The bytes that `to_tensor` made the tensor of."""
    return tensor.contiguous().numpy().tobytes()


def table(rows: list[bytes], width: int) -> Tensor:
    """Rows of `width` bytes each: uint8, shape (len(rows), width)."""
    return to_tensor(b"".join(rows)).view(len(rows), width)


def rows(tensor: Tensor, count: int, width: int, what: str) -> list[bytes]:
    """The rows that `table` made the tensor of.

    Raises:
        WireError: another shape or type, said of `what`.
    """
    if tensor.dtype != torch.uint8 or tuple(tensor.shape) != (count, width):
        found = f"{tuple(tensor.shape)} of {tensor.dtype}"
        raise WireError(f"{what} have shape {found}; they must be ({count}, {width}) of torch.uint8")
    return [to_bytes(row) for row in tensor]
