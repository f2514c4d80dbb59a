"""Sparsification as a defence: the smallest entries of each tensor are set to zero, and forgotten.

What L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.2. It is Top-K without error
feedback, told by the share that is dropped.
"""

from dataclasses import dataclass
from typing import ClassVar

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Update
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.sparse import Sparse
from gradwire.schemes.sparse_messages import SparseMessages
from gradwire.schemes.topk import TopK
from gradwire.wire import ClientHalf, Send, Tensors


@dataclass(frozen=True)
class Sparsify(SparseMessages):
    """Keep the largest entries of each tensor.

    Attributes:
        drop: the share of entries that are set to zero, in [0, 1). At least one entry of a tensor is kept.
    """

    name: ClassVar[str] = "sparsify"

    drop: float

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise GradwireError(f"sparsify: drop is {self.drop}; it must be in [0, 1)")

    @property
    def kept(self) -> TopK:
        """The same choice of entries as a Top-K."""
        # 1 − 0.7 is a little more than 0.3, which would keep one entry too many.
        return TopK(ratio=max(round(1 - self.drop, 12), 1e-12), error_feedback=False)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries."""
        layout = round.layout
        reply = yield Send("entries", self.write(self.kept.choose(layout.flatten(update), layout)), settled=private)
        return Outcome(self.read(reply, layout.size).update(layout), public, private)

    def write(self, entries: Sparse) -> Tensors:
        """Entries with their positions, or the whole vector, whichever takes fewer bytes."""
        coded = entries.tensors()
        if sum(t.nbytes for t in coded.values()) < entries.values.element_size() * entries.size:
            return coded
        return {"dense": entries.dense()}

    def read(self, tensors: Tensors, size: int) -> Sparse:
        """The entries that a message of either form holds; in a whole vector those that are not zero."""
        if "dense" in tensors:
            vector = tensors["dense"]
            return Sparse.pick(vector, vector.nonzero()[:, 0])
        return Sparse.of(tensors, size)
