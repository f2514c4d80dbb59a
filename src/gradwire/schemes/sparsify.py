"""Sparsification as a defence: the smallest entries of each tensor are set to zero, and forgotten.

What L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.2. It is Top-K without error
feedback, with the share that is dropped for a hyper-parameter.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradwire.errors import check_fraction
from gradwire.schemes.imitation import Stacked, largest_of_each
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.scheme import exactly
from gradwire.schemes.sparse import Sparse, SparseMessages
from gradwire.schemes.topk import TopK
from gradwire.wire import ClientHalf, Tensors


@dataclass(frozen=True)
class Sparsify(SparseMessages):
    """Send the largest entries of each tensor.

    Attributes:
        drop: the share of entries that are set to zero, in [0, 1). At least one entry of a tensor is sent.
    """

    name: ClassVar[str] = "sparsify"

    drop: float

    def __post_init__(self) -> None:
        check_fraction(self.name, self, "drop")

    @property
    def selection(self) -> TopK:
        """The Top-K that chooses the same entries."""
        # 1 − 0.7 is a little more than 0.3, which would send one entry too many.
        return TopK(ratio=max(round(1 - self.drop, 12), 1e-12), error_feedback=False)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries."""
        sent = self.selection.choose(round.layout.flatten(update), round.layout)
        return (yield from self.exchange(sent, private, public, round))

    def write(self, sent: Sparse) -> Tensors:
        """Entries with their positions, or the whole vector, whichever takes fewer bytes."""
        coded = sent.tensors()
        if sum(t.nbytes for t in coded.values()) < sent.values.element_size() * sent.size:
            return coded
        return {"dense": sent.dense()}

    def read(self, tensors: Tensors, round: Round) -> Sparse:
        """The entries of a message of either form; those of a whole vector that are not zero.

        Raises:
            WireError: as `Sparse.of`, or a whole vector of another size.
        """
        if "dense" not in tensors:
            return super().read(tensors, round)
        vector = tensors["dense"]
        exactly(tensors, {"dense": (round.layout.size,)}, vector.dtype)
        return Sparse.pick(vector, vector.nonzero()[:, 0])

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The largest entries of every gradient's tensors."""
        return largest_of_each(own, round.layout, self.selection.counts(round.layout), "tensor")
