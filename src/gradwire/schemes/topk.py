"""Top-K: send the K entries of largest magnitude, with their positions; carry the rest over.

A. F. Aji, K. Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017; S. U. Stich,
J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018 (Algorithm 1: error feedback).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.schemes.imitation import Stacked, largest_of_each
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.selection import choose
from gradwire.schemes.sparse import Sparse, SparseMessages
from gradwire.schemes.sparsifier import Sparsifier
from gradwire.wire import ClientHalf
from gradwire.wire.indices import code_size


@dataclass(frozen=True)
class TopK(Sparsifier, SparseMessages):
    """Sparsification by magnitude; see `Sparsifier` for the hyper-parameters."""

    name: ClassVar[str] = "topk"

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries of g + e; e ← what was left out."""
        delta = self.corrected(update, private, round.layout)
        sent = self.choose(delta, round.layout)
        return (yield from self.exchange(sent, self.split(delta, sent.indices, private), public, round))

    def choose(self, vector: Tensor, layout: Layout) -> Sparse:
        """The entries of a flat update, shape (size,), that are sent."""
        return choose(vector, layout, self.counts(layout), self.per)

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The largest entries of every gradient."""
        return largest_of_each(own, round.layout, self.counts(round.layout), self.per)

    @staticmethod
    def affordable(bytes: int, size: int) -> int:
        """The largest K whose float32 values and coded positions fit."""
        low, high = 1, size
        while low < high:
            middle = (low + high + 1) // 2
            if 4 * middle + code_size(middle, size) <= bytes:
                low = middle
            else:
                high = middle - 1
        return low
