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

from gradwire.schemes import byte_matching
from gradwire.schemes.aggregate import mean
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import exactly
from gradwire.schemes.sparse import Sparse, supports
from gradwire.schemes.sparsifier import Sparsifier
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors


@dataclass(frozen=True)
class RandomK(Sparsifier):
    """Sparsification at random; see `Sparsifier` for the hyper-parameters.

    What is kept is sent as it is: the expectation is K/n of the update.
    """

    name: ClassVar[str] = "randomk"

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send g + e at the round's positions; e ← what was left out."""
        delta = round.layout.flatten(update)
        if private:
            delta = delta + private["residual"]
        positions = self.positions(round)
        values = delta[positions]
        state = {**private, **({"residual": delta.index_fill_(0, positions, 0)} if private else {})}
        reply = yield Send("entries", {"values": values}, mean=True, settled=state)
        aggregate = Sparse(positions, reply["values"], round.layout.size)
        return Outcome(aggregate.update(round.layout), public, state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean."""
        uploads = yield None
        average = mean(uploads)
        yield Send("entries", average)
        aggregate = Sparse(self.positions(round), average["values"], round.layout.size)
        return Outcome(aggregate.update(round.layout), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """K values."""
        exactly(tensors, {"values": (sum(self.counts(round.layout).values()),)}, round.layout.dtype)

    def decode(self, observation: Observation) -> Update:
        """The kept entries, and zero elsewhere."""
        return self._sent(observation).update(observation.round.layout)

    def measure(self, observation: Observation) -> Measurement:
        """The kept entries alone."""
        return supports(self._sent(observation), observation.round.layout)

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

    @staticmethod
    def affordable(bytes: int, size: int) -> int:
        """As many as pay for values alone."""
        return byte_matching.without_positions(bytes, size)

    def _sent(self, observation: Observation) -> Sparse:
        return Sparse(
            self.positions(observation.round), observation.uploads["entries"]["values"], observation.round.layout.size
        )


def draw(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the positions below `size`, every set of them as likely as any other: int64, ascending.

    Few are drawn one by one, repeats dropped, until there are enough: a whole permutation of millions takes far
    longer. More than a quarter are the head of such a permutation.
    """
    if 4 * count > size:
        return torch.randperm(size, generator=generator)[:count].sort().values
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        more = torch.randint(size, (count + count // 4 + 8,), generator=generator)
        drawn = torch.cat((found, more))
        # A stable order among equals: each position is kept where it was drawn first, so the first K are K fair draws.
        order = drawn.argsort(stable=True)
        first = torch.ones(len(drawn), dtype=torch.bool)
        first[order[1:]] = drawn[order].diff() != 0
        found = drawn[first]
    return found[:count].sort().values
