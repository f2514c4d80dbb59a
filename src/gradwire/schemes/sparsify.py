"""Sparsification as a defence: the smallest entries of each tensor are set to zero, and forgotten.

What L. Zhu, Z. Liu, S. Han try in "Deep leakage from gradients", NeurIPS 2019, section 5.2. It is Top-K without error
feedback, told by the share that is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, Sight, State
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.sparse import Sparse, merge
from gradwire.schemes.topk import TopK
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors


@dataclass(frozen=True)
class Sparsify(Scheme):
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
        reply = yield Send("entries", _shorter(self.kept.choose(layout.flatten(update), layout)))
        return Outcome(layout.unflatten(_read(reply, layout.size).dense()), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean over clients, on the union of what they sent."""
        uploads = yield None
        average = merge([_read(tensors, round.layout.size) for tensors in uploads.values()])
        yield Send("entries", _shorter(average))
        return Outcome(round.layout.unflatten(average.dense()), public, {})

    def decode(self, sight: Sight) -> Update:
        """The kept entries, and zero elsewhere."""
        return self.kept.decode(_sparse(sight))

    def measure(self, sight: Sight) -> Measurement:
        """The kept entries alone."""
        return self.kept.measure(_sparse(sight))

    def others(self, reply: Tensors, own: Tensors, round: Round) -> Tensors:
        """The mean of what the others kept."""
        size = round.layout.size
        return self.kept.others(_read(reply, size).tensors(), _read(own, size).tensors(), round)


def _shorter(entries: Sparse) -> Mapping[str, Tensor]:
    """The tensors of a message: entries with their positions, or the whole vector, whichever takes fewer bytes."""
    coded = entries.tensors()
    if sum(t.nbytes for t in coded.values()) < entries.values.element_size() * entries.size:
        return coded
    return {"dense": entries.dense()}


def _read(tensors: Tensors, size: int) -> Sparse:
    """The entries that a message of either form holds; in a whole vector those that are not zero."""
    if "dense" in tensors:
        vector = tensors["dense"]
        return Sparse.pick(vector, vector.nonzero()[:, 0])
    return Sparse.of(tensors, size)


def _sparse(sight: Sight) -> Sight:
    """The same sight, with the entries in the form that Top-K reads."""
    entries = _read(sight.uploads["entries"], sight.round.layout.size)
    return replace(sight, uploads={"entries": entries.tensors()})
