"""Some entries of a flat update: their positions and values, and the tensors that carry them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.schemes.layout import Layout, Update
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
        return torch.zeros(self.size, dtype=self.values.dtype).index_put_((self.indices,), self.values)

    def within(self, begin: int, size: int) -> "Sparse":
        """What lies in the `size` entries from `begin` on, as a vector of its own."""
        first, last = torch.searchsorted(self.indices, torch.tensor([begin, begin + size])).tolist()
        return Sparse(self.indices[first:last] - begin, self.values[first:last], size)

    def update(self, layout: Layout) -> Update:
        """The vector as an update."""
        return Scattered(self, layout)


@dataclass(frozen=True, eq=False)
class Scattered(Mapping[str, Tensor]):
    """A sparse vector as an update: a parameter is made dense when it is asked for, and not for whoever never asks."""

    entries: Sparse
    layout: Layout

    def __getitem__(self, name: str) -> Tensor:
        part = self.entries.within(self.layout.offsets[name], self.layout.sizes[name])
        return part.dense().view(self.layout.shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.shapes)

    def __len__(self) -> int:
        return len(self.layout.shapes)


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
        part = sent.within(layout.offsets[name], size)
        if len(part.indices):
            terms[name] = [Support.at(part.indices, part.values)]
    return terms
