"""Byte strings as uint8 tensors, which messages and states hold, and checks of tensors that another party sent."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.wire import Tensors


def to_tensor(data: bytes) -> Tensor:
    """The bytes as uint8, shape (len(data),)."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def to_bytes(tensor: Tensor) -> bytes:
    """The bytes that a tensor of `to_tensor` holds."""
    return tensor.contiguous().numpy().tobytes()


def table(rows: Sequence[bytes], width: int) -> Tensor:
    """Rows of `width` bytes each: uint8, shape (len(rows), width)."""
    return to_tensor(b"".join(rows)).view(len(rows), width)


def rows(tensor: Tensor, count: int, width: int, what: str) -> list[bytes]:
    """The rows of a `table`; WireError about `what` if its shape or dtype is another."""
    if tensor.dtype != torch.uint8 or tuple(tensor.shape) != (count, width):
        found = f"{tuple(tensor.shape)} of {tensor.dtype}"
        raise WireError(f"{what} have shape {found}; they must be ({count}, {width}) of torch.uint8")
    return [to_bytes(row) for row in tensor]


def part(tensors: Tensors, name: str, where: str) -> Tensor:
    """One tensor of a message; WireError about `where` if it is missing (the message is of another phase)."""
    if name not in tensors:
        raise WireError(f"{where}: message holds {sorted(tensors)}; it must hold {name!r}")
    return tensors[name]


def places(tensors: Tensors, where: str) -> list[int]:
    """The places of the clients that a message is about; WireError about `where` if one comes twice."""
    found = part(tensors, "places", where)
    if found.dtype != torch.int32 or found.dim() != 1 or len(found.unique()) != len(found):
        raise WireError(f"{where}: places are {found.tolist()} of {found.dtype}; they must be different int32")
    return found.tolist()


def by_place(name: str, content: Mapping[int, bytes], width: int) -> dict[str, Tensor]:
    """A message about several clients: their "places", and under `name` a row of `width` bytes for each."""
    return {"places": torch.tensor(list(content), dtype=torch.int32), name: table(list(content.values()), width)}


def read_by_place(tensors: Tensors, name: str, width: int, where: str) -> dict[int, bytes]:
    """The content of a message that `by_place` made; WireError about `where` if it is malformed."""
    about = places(tensors, where)
    return dict(zip(about, rows(part(tensors, name, where), len(about), width, f"{where}: {name}"), strict=True))
