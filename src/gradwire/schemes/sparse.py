"""Some entries of a flat update: their positions and values, and the tensors that carry them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.schemes.layout import Layout
from gradwire.schemes.measurement import Measurement, Support
from gradwire.wire import Tensors, indices


@dataclass(frozen=True)
class Sparse:
    """Entries of a vector.

    Attributes:
        indices: int64, shape (K,), strictly ascending.
        values: shape (K,).
        size: entries of the whole vector.
    """

    indices: Tensor
    values: Tensor
    size: int

    @classmethod
    def pick(cls, vector: Tensor, indices: Tensor) -> "Sparse":
        """The entries of `vector` at ascending `indices`."""
        return cls(indices, vector[indices], vector.numel())

    @classmethod
    def of(cls, tensors: Tensors, size: int) -> "Sparse":
        """What `tensors()` put on the wire.

        Raises:
            WireError: a tensor is missing, or the positions do not fit the values.
        """
        if set(tensors) != {"values", "indices"}:
            raise WireError(f"sparse message holds {sorted(tensors)}; it must hold 'indices' and 'values'")
        values = tensors["values"]
        return cls(indices.decode(tensors["indices"], values.numel(), size), values, size)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a message: values, and positions in their coded form."""
        return {"values": self.values, "indices": indices.encode(self.indices, self.size)}

    def dense(self) -> Tensor:
        """The whole vector, shape (size,), zero where nothing was kept."""
        return torch.zeros(self.size, dtype=self.values.dtype).index_put((self.indices,), self.values)


def merge(parts: Sequence[Sparse]) -> Sparse:
    """The mean of several sparse vectors, on the union of their positions."""
    union, place = torch.cat([part.indices for part in parts]).unique(return_inverse=True)
    values = torch.cat([part.values for part in parts])
    total = torch.zeros(len(union), dtype=values.dtype).index_add(0, place, values)
    return Sparse(union, total / len(parts), parts[0].size)


def supports(sent: Sparse, layout: Layout) -> Measurement:
    """The measurement of entries of a flat update: each parameter's own, and nothing where none were sent."""
    terms = {}
    for name, size in layout.sizes.items():
        begin = layout.offsets[name]
        first, last = torch.searchsorted(sent.indices, torch.tensor([begin, begin + size])).tolist()
        if last > first:
            terms[name] = [Support.at(sent.indices[first:last] - begin, sent.values[first:last])]
    return terms
