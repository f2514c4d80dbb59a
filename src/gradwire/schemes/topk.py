"""Top-K: send the K entries of largest magnitude, with their positions; carry the rest over.

A. F. Aji, K. Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017; S. U. Stich,
J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018 (Algorithm 1: error feedback).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.schemes import byte_matching
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.selection import choose
from gradwire.schemes.sparse import Sparse
from gradwire.schemes.sparse_messages import SparseMessages
from gradwire.schemes.sparsifier import Sparsifier
from gradwire.wire import ClientHalf, Send


@dataclass(frozen=True)
class TopK(Sparsifier, SparseMessages):
    """Sparsification by magnitude; see `Sparsifier` for the hyper-parameters."""

    name: ClassVar[str] = "topk"

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries of g + e; e ← what was left out."""
        delta = round.layout.flatten(update)
        if private:
            delta = delta + private["residual"]
        kept = self.choose(delta, round.layout)
        state = {**private, **({"residual": delta.index_fill_(0, kept.indices, 0)} if private else {})}
        reply = yield Send("entries", self.write(kept), settled=state)
        aggregate = self.read(reply, round.layout.size)
        return Outcome(aggregate.update(round.layout), public, state)

    def choose(self, vector: Tensor, layout: Layout) -> Sparse:
        """The entries of a flat update, shape (size,), that are sent."""
        return choose(vector, layout, self.counts(layout), self.per)

    @staticmethod
    def affordable(bytes: int, size: int) -> int:
        """As many as pay for values and positions."""
        return byte_matching.with_positions(bytes, size)
