"""Random-K: send K entries at positions that everybody draws alike, so that positions cost nothing.

S. U. Stich, J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018: definition 2.1 (rand_k is a
k-contraction: E‖x − rand_k(x)‖² = (1 − k/d)·‖x‖²) and algorithm 1 (memory). Positions are drawn from the round's
public seed, the same for all clients, as in J. Konečný et al., "Federated learning: Strategies for improving
communication efficiency", 2016, section 3 (random mask): what is sent can then be summed entry by entry.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.schemes.halves import mean
from gradwire.schemes.imitation import Stacked, at
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.scheme import Scheme, exactly
from gradwire.schemes.sparse import Sparse, SparseMessages
from gradwire.schemes.sparsifier import Sparsifier
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors


@dataclass(frozen=True)
class RandomK(Sparsifier, SparseMessages):
    """Sparsification at random; see `Sparsifier` for the hyper-parameters.

    Values are sent as they are, not scaled up: their expectation is K/n of the update.
    """

    name: ClassVar[str] = "randomk"

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send g + e at the round's positions; e ← what was left out."""
        delta = self.corrected(update, private, round.layout)
        sent = Sparse.pick(delta, self.positions(round))
        return (yield from self.exchange(sent, self.split(delta, sent.indices, private), public, round, mean=True))

    def write(self, sent: Sparse) -> Tensors:
        """The values alone."""
        return {"values": sent.values}

    def read(self, tensors: Tensors, round: Round) -> Sparse:
        """The values, at the round's positions."""
        return Sparse(self.positions(round), tensors["values"], round.layout.size)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean."""
        uploads = yield None
        average = mean(uploads)
        yield Send("entries", average)
        return Outcome(self.read(average, round).update(round.layout), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """K values."""
        exactly(tensors, {"values": (sum(self.counts(round.layout).values()),)}, round.layout.dtype)

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of the others, entry by entry."""
        return Scheme.others(self, reply, own, party, public, round)

    def positions(self, round: Round) -> Tensor:
        """Where the round's K entries stand in the flat update: int64, ascending."""
        layout, counts = round.layout, self.counts(round.layout)
        if self.per == "model":
            return draw(layout.size, sum(counts.values()), round.generator())
        # Drawn parameter by parameter, so that it does not matter which of them share a bucket.
        drawn = (
            draw(layout.sizes[name], k, round.generator(name)) + layout.offsets[name] for name, k in counts.items()
        )
        return torch.cat(list(drawn))

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The round's positions of every gradient."""
        layout, positions = round.layout, self.positions(round)
        firsts = torch.tensor([*layout.offsets.values(), layout.size])
        counts = torch.searchsorted(positions, firsts).diff().tolist()
        split = zip(layout.offsets.items(), positions.split(counts), strict=True)
        return at(own, {name: part - offset for (name, offset), part in split if len(part)})

    @staticmethod
    def affordable(bytes: int, size: int) -> int:
        """The largest K whose float32 values fit."""
        return max(1, min(size, bytes // 4))


def draw(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the positions below `size`, every set of them as likely as any other: int64, ascending.

    Up to a quarter of them are drawn one by one, without repeats, which is far faster than a permutation of all. More
    are the head of such a permutation.
    """
    if 4 * count > size:
        return torch.randperm(size, generator=generator)[:count].sort().values
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        more = torch.randint(size, (count + count // 4 + 8,), generator=generator)
        drawn = torch.cat((found, more))
        # Each position stays where it was drawn first (the sort is stable), so that the first K are K fair draws.
        order = drawn.argsort(stable=True)
        first = torch.ones(len(drawn), dtype=torch.bool)
        first[order[1:]] = drawn[order].diff() != 0
        found = drawn[first]
    return found[:count].sort().values
