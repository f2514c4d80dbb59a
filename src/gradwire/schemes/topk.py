"""Top-K: send the K entries of largest magnitude, with their positions; carry the rest over.

A. F. Aji, K. Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017; S. U. Stich,
J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018 (Algorithm 1: error feedback).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.schemes import budget
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Outcome, Round, Sight, State
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.selection import Per, choose
from gradwire.schemes.sparse import Sparse, merge, rest, supports
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors


@dataclass(frozen=True)
class TopK(Scheme):
    """Sparsification by magnitude.

    Attributes:
        ratio: the share of entries to keep, in (0, 1].
        match_rank: instead of a ratio, keep as many bytes as PowerSGD of this rank would send.
        per: choose the largest entries within each "tensor", or over the whole "model".
        error_feedback: what was not sent is added to the next update.
    """

    name: ClassVar[str] = "topk"

    ratio: float | None = None
    match_rank: int | None = None
    per: Per = "tensor"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        budget.check("topk", self.ratio, self.match_rank)

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The residual e ← 0, as one flat vector."""
        return {"residual": torch.zeros(layout.size)} if self.error_feedback else {}

    @property
    def feeds_back(self) -> bool:
        """With error feedback."""
        return self.error_feedback

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries of g + e; e ← what was left out."""
        delta = round.layout.flatten(update)
        if private:
            delta = delta + private["residual"]
        kept = self.choose(delta, round.layout)
        reply = yield Send("entries", kept.tensors())
        aggregate = Sparse.of(reply, round.layout.size).dense()
        residual = {"residual": delta.index_fill_(0, kept.indices, 0)} if private else {}
        return Outcome(round.layout.unflatten(aggregate), public, {**private, **residual})

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean over clients, on the union of what they sent."""
        uploads = yield None
        size = round.layout.size
        average = merge([Sparse.of(tensors, size) for tensors in uploads.values()])
        yield Send("entries", average.tensors())
        return Outcome(round.layout.unflatten(average.dense()), public, {})

    def choose(self, vector: Tensor, layout: Layout) -> Sparse:
        """The entries of a flat update, shape (size,), that are sent."""
        return choose(vector, layout, self.counts(layout), self.per)

    def counts(self, layout: Layout) -> dict[str, int]:
        """K for each parameter; with per="model" only their sum matters."""
        if self.match_rank is not None:
            return budget.match(layout, self.match_rank, budget.with_positions)
        assert self.ratio is not None
        return budget.shares(layout, self.ratio)

    def decode(self, sight: Sight) -> Update:
        """The kept entries, and zero elsewhere."""
        layout = sight.round.layout
        return layout.unflatten(Sparse.of(sight.uploads["entries"], layout.size).dense())

    def measure(self, sight: Sight) -> Measurement:
        """The kept entries alone: where nothing was sent, nothing is known."""
        layout = sight.round.layout
        return supports(Sparse.of(sight.uploads["entries"], layout.size), layout)

    def others(self, reply: Tensors, own: Tensors, round: Round) -> Tensors:
        """The mean of what the others kept: the reply less this client's part, where anything is left."""
        return rest(reply, own, round)
