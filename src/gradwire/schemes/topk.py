"""Top-K: send the K entries of largest magnitude, with their positions; carry the rest over.

A. F. Aji, K. Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017; S. U. Stich,
J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018 (Algorithm 1: error feedback).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, Support
from gradwire.schemes.powersgd import Plan
from gradwire.schemes.scheme import Outcome, Round, Scheme, Sight, State, check_positive
from gradwire.schemes.sparse import Sparse, merge
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors
from gradwire.wire.indices import code_size


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
    per: Literal["tensor", "model"] = "tensor"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.match_rank is None):
            raise GradwireError("topk needs either ratio or match_rank: topk:ratio=0.01 or topk:match_rank=4")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise GradwireError(f"topk: ratio is {self.ratio}; it must be in (0, 1]")
        check_positive("topk", "match_rank", self.match_rank)

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The residual e ← 0, as one flat vector."""
        return {"residual": torch.zeros(layout.size)} if self.error_feedback else {}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the largest entries of g + e; e ← what was left out."""
        delta = round.layout.flatten(update)
        if private:
            delta = delta + private["residual"]
        kept = self.choose(delta, round.layout)
        reply = yield Send("entries", kept.tensors())
        aggregate = Sparse.of(reply, round.layout.size).dense()
        residual = {"residual": delta.index_fill(0, kept.indices, 0)} if private else {}
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
        counts = self.counts(layout)
        if self.per == "model":
            return Sparse.pick(vector, largest(vector, sum(counts.values())))
        parts = zip(vector.split(list(layout.sizes.values())), counts.items(), strict=True)
        chosen = [largest(part, count) + layout.offsets[name] for part, (name, count) in parts]
        return Sparse.pick(vector, torch.cat(chosen))

    def counts(self, layout: Layout) -> dict[str, int]:
        """K for each parameter; with per="model" only their sum matters."""
        if self.ratio is not None:
            return {name: ceil(self.ratio * size) for name, size in layout.sizes.items()}
        assert self.match_rank is not None
        plan = Plan.of(layout, self.match_rank)
        total = affordable(4 * plan.entries, layout.size)
        shares = {}
        for name, size in layout.sizes.items():
            n, m, r = plan.shapes.get(name, (0, 0, 0))
            shares[name] = min(size, round((n + m) * r * total / plan.entries) if r else size)
        return _fit(shares, layout.sizes, total)

    def decode(self, sight: Sight) -> Update:
        """The kept entries, and zero elsewhere."""
        layout = sight.round.layout
        return layout.unflatten(Sparse.of(sight.uploads["entries"], layout.size).dense())

    def measure(self, sight: Sight) -> Measurement:
        """The kept entries alone: where nothing was sent, nothing is known."""
        layout = sight.round.layout
        sent = Sparse.of(sight.uploads["entries"], layout.size)
        terms = {}
        for name, size in layout.sizes.items():
            begin = layout.offsets[name]
            first, last = torch.searchsorted(sent.indices, torch.tensor([begin, begin + size])).tolist()
            if last > first:
                terms[name] = [Support.at(sent.indices[first:last] - begin, sent.values[first:last])]
        return terms

    def others(self, reply: Tensors, own: Tensors, round: Round) -> Tensors:
        """The mean of what the others kept: the reply less this client's part, where anything is left."""
        n, size = len(round.clients), round.layout.size
        rest = (n * Sparse.of(reply, size).dense() - Sparse.of(own, size).dense()) / (n - 1)
        return Sparse.pick(rest, rest.nonzero()[:, 0]).tensors()


def largest(vector: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest magnitudes of a vector, int64, ascending."""
    return torch.topk(vector.abs(), count, sorted=False).indices.sort().values


def affordable(budget: int, size: int) -> int:
    """The largest K whose float32 values and coded positions below `size` fit into `budget` bytes."""
    low, high = 1, size
    while low < high:
        middle = (low + high + 1) // 2
        if 4 * middle + code_size(middle, size) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _fit(counts: Mapping[str, int], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Counts that add up to `total`, taking the difference from (or giving it to) the largest parameters first."""
    fitted, excess = dict(counts), sum(counts.values()) - total
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        change = max(min(excess, fitted[name] - 1), fitted[name] - sizes[name])
        fitted[name] -= change
        excess -= change
    return fitted
