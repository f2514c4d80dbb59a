"""Some entries of a flat update: their positions and values, the messages that carry them, the mean of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.schemes.layout import Formed, Layout, Update
from gradwire.schemes.measurement import Measurement, Support
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors, indices


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
        """Read what `tensors()` put on the wire.

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
        """The whole vector, shape (size,), zero elsewhere."""
        return torch.zeros(self.size, dtype=self.values.dtype).index_put_((self.indices,), self.values)

    def within(self, begin: int, size: int) -> "Sparse":
        """The part that lies in the `size` entries from `begin` on, as a vector of its own."""
        first, last = torch.searchsorted(self.indices, torch.tensor([begin, begin + size])).tolist()
        return Sparse(self.indices[first:last] - begin, self.values[first:last], size)

    def update(self, layout: Layout) -> Update:
        """The vector as an update."""
        return Scattered(self, layout)

    def supports(self, layout: Layout) -> Measurement:
        """The measurement of these entries: parameters of which none was sent have no term."""
        parts = {name: self.within(layout.offsets[name], size) for name, size in layout.sizes.items()}
        return {name: [Support.at(part.indices, part.values)] for name, part in parts.items() if len(part.indices)}


@dataclass(frozen=True, eq=False)
class Scattered(Formed):
    """A sparse vector as an update. A parameter is made dense only when it is asked for."""

    sparse: Sparse
    layout: Layout

    def write(self, name: str, out: Tensor) -> None:
        """Zeros, and the entries that are there."""
        part = self.sparse.within(self.layout.offsets[name], self.layout.sizes[name])
        out.zero_().view(-1).index_put_((part.indices,), part.values)


def merge(parts: Sequence[Sparse]) -> Sparse:
    """The mean of several sparse vectors, on the union of their positions."""
    union, place = torch.cat([part.indices for part in parts]).unique(return_inverse=True)
    values = torch.cat([part.values for part in parts])
    total = torch.zeros(len(union), dtype=values.dtype).index_add(0, place, values)
    return Sparse(union, total / len(parts), parts[0].size)


@dataclass(frozen=True)
class SparseMessages(Scheme):
    """A scheme whose clients send some entries of a flat update with their positions, and get their mean.

    Its client half chooses the entries, and ends with `exchange`.
    """

    def write(self, sent: Sparse) -> Tensors:
        """The tensors of a sparse message."""
        return sent.tensors()

    def read(self, tensors: Tensors, round: Round) -> Sparse:
        """The entries of a sparse message; raises as `Sparse.of`."""
        return Sparse.of(tensors, round.layout.size)

    def exchange(
        self, sent: Sparse, after: State, public: State, round: Round, mean: bool = False
    ) -> ClientHalf[Outcome]:
        """The end of a client's half: send these entries, and read the mean; `after` is its state from then on."""
        reply = yield Send("entries", self.write(sent), mean, settled=after)
        return Outcome(self.read(reply, round).update(round.layout), public, after)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean over clients, on the union of what they sent."""
        uploads = yield None
        average = merge([self.read(tensors, round) for tensors in uploads.values()])
        yield Send("entries", self.write(average))
        return Outcome(average.update(round.layout), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """Values of the layout's dtype at positions within the model."""
        sent = self.read(tensors, round)
        if sent.values.dtype != round.layout.dtype or sent.values.ndim != 1:
            kind = f"shape {tuple(sent.values.shape)} of {sent.values.dtype}"
            raise WireError(f"'values' holds {kind}; a vector of {round.layout.dtype} was due")

    def decode(self, observation: Observation) -> Update:
        """The sent entries, and zero elsewhere."""
        return self._sent(observation).update(observation.round.layout)

    def measure(self, observation: Observation) -> Measurement:
        """The sent entries alone: where nothing was sent, nothing is known."""
        return self._sent(observation).supports(observation.round.layout)

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of what the others sent: the reply less this client's part, where anything is left."""
        n = len(round.clients)
        others = (n * self.read(reply, round).dense() - self.read(own, round).dense()) / (n - 1)
        return self.write(Sparse.pick(others, others.nonzero()[:, 0]))

    def _sent(self, observation: Observation) -> Sparse:
        return self.read(observation.uploads["entries"], observation.round)
